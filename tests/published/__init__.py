"""What the authors' code, README files and logs say of their recipes: a module for each system, found by itself.

Each has `PUBLISHED`, and by the beginnings of recipes' names, the longest first, `OPTIMISERS` (before the learning rate
and its floor), `LOSSES` (what the cross entropies average over, and each output with its weight) and `PRETRAINED`.

A line of `PUBLISHED` without indentation is of settings: data set, split trained on and split measured; steps;
processes x crops; steps between evaluations; crop; the size and the range of ratios that resizing refers to; learning
rate and its floor. Below it stand the recipes that have them, each with its protocol and its score.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import Any


def _systems() -> list[ModuleType]:
    return [importlib.import_module(found.name) for found in pkgutil.iter_modules(__path__, f"{__name__}.")]


def rows() -> dict[str, list[str]]:
    """The settings, the protocol and the score of every published recipe, in words."""
    found: dict[str, list[str]] = {}
    for system in _systems():
        settings: list[str] = []
        for line in system.PUBLISHED.strip("\n").splitlines():
            words = line.split()
            if line.startswith(" "):
                found[words[0]] = settings + words[1:]
            else:
                settings = words
    return found


def of(table: str, recipe: str) -> Any:
    """What a table of the recipe's system says of the recipe."""
    values = {prefix: value for system in _systems() for prefix, value in getattr(system, table).items()}
    return next(values[prefix] for prefix in sorted(values, key=len, reverse=True) if recipe.startswith(prefix))
