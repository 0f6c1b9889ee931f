"""Functions that Numba compiles when they are first used.

The machine code is cached beside the file of the function, or in the user's cache folder where the package's folder
cannot be written to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from segscape.messages import say_once

_log = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function to machine code that several threads may run at once."""
    return cast("Function", _kept(lambda cache: numba.njit(cache=cache, nogil=True, error_model="numpy")(function)))


def say_if_compiled_now(function: Callable[..., object]) -> None:
    """Say that a function is about to be compiled, unless its machine code was kept by an earlier process."""
    kept = Path(function.stats.cache_path or "")  # type: ignore[attr-defined]
    if not any(kept.glob(f"*.{function.__name__}-*.nbi")):
        say_once(
            _log, f"Loops are compiled for this processor, which takes some seconds; later runs find them in {kept}."
        )


def callback(signature: Any, function: Callable[..., None]) -> int:
    """Compile a function and return the address of its machine code, for libraries written in C.

    Args:
        signature: The function's Numba types.
        function: The function, which must not raise.
    """
    code = _kept(lambda cache: numba.cfunc(signature, cache=cache, error_model="numpy")(function))
    return int(code.address)


def _kept(compile_it: Callable[[bool], Any]) -> Any:
    try:
        return compile_it(True)
    except RuntimeError:  # there is no folder to keep the machine code in
        return compile_it(False)
