"""Benchmarks: the speed of networks on this machine, all timed alike, each in a process of its own."""
