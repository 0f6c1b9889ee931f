"""Weights: conversion of the authors' checkpoints, and weights files with metadata."""
