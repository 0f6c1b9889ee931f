"""The values that arguments take: text to pixels, bytes, numbers and sizes."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from segscape.rasters.channels import Scaling

_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]I?)?B?", re.IGNORECASE)
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def pixels(text: str) -> int:
    """Parse a positive whole number.

    Raises:
        argparse.ArgumentTypeError: The text is not one.
    """
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of pixels; it is a whole number from 1 on.")
    return int(text)


def count(text: str) -> int:
    """Parse a whole number from 1 on.

    Raises:
        argparse.ArgumentTypeError: The text is not one.
    """
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on.")
    return int(text)


def memory(text: str) -> int:
    """Return the number of bytes that a text such as `2GB` or `4GiB` means.

    Raises:
        argparse.ArgumentTypeError: The text is not a positive amount of memory.
    """
    found = _MEMORY.fullmatch(text.strip())
    amount = int(float(found["number"]) * _UNITS.get((found["unit"] or "").lower(), 1)) if found else 0
    if amount <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no amount of memory; write it as 2GB, 1500MB or 4GiB.")
    return amount


def numbers(text: str) -> tuple[float, ...]:
    """Parse one or more numbers separated by commas.

    Raises:
        argparse.ArgumentTypeError: A part is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers; write them as 0.75,1,1.5.") from None


def bands(text: str) -> tuple[int, ...]:
    """Parse the numbers of bands, counted from 1 and separated by commas.

    Raises:
        argparse.ArgumentTypeError: A part is not a whole number from 1 on.
    """
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text} is no list of bands; write them as 3,2,1, counted from 1.")
    return tuple(int(part) for part in text.split(","))


def scaling(text: str) -> Scaling | Literal["common"]:
    """Parse the values that become black and white, separated by a comma, or `common`.

    Raises:
        argparse.ArgumentTypeError: There are not two of them, or the first is not the lower one.
    """
    if text == "common":
        return "common"
    limits = numbers(text)
    if len(limits) != 2:
        raise argparse.ArgumentTypeError(
            f"{text} is no scaling; write it as 0,3000, the values of black and white, or common."
        )
    # Loads NumPy, which few commands need for their arguments.
    from segscape.rasters.channels import Scaling

    try:
        return Scaling(*limits)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> tuple[int, int]:
    """Parse a (height, width) such as `1024x2048`.

    Raises:
        argparse.ArgumentTypeError: The text is no size.
    """
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(f"{text} is no size; write HEIGHTxWIDTH, as in 1024x2048.")
    return int(found[1]), int(found[2])


def size_or_dynamic(text: str) -> tuple[int, int] | None:
    """Parse a (height, width) such as `1024x2048`, or return None for `dynamic`.

    Raises:
        argparse.ArgumentTypeError: The text is neither.
    """
    if text == "dynamic":
        return None
    try:
        return size(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text} is no size; write HEIGHTxWIDTH, as in 1024x2048, or dynamic."
        ) from None
