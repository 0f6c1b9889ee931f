"""Whether a video file is whole, by the sizes that its outermost elements state.

FFmpeg, where a file has been cut, returns the frames that are left and reports no error.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

# The longest head of an element: 4 bytes of an EBML identifier and 8 of a size, or 16 of a large box.
_HEAD_BYTES = 16
_EBML, _SEGMENT, _VOID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\xec"


def missing_bytes(path: Path) -> int:
    """Return how many bytes a video lacks at its end; 0 where its format or the file does not say.

    The outermost elements of Matroska and WebM (EBML, RFC 8794), of MP4 and MOV (boxes, ISO/IEC 14496-12) and of AVI
    (RIFF) state their sizes; they are followed to the end of the file.
    """
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        place = 0
        while place < total:
            file.seek(place)
            head = file.read(_HEAD_BYTES)
            if place == 0:
                element_size = _format_of(head)
            size = None if element_size is None else element_size(head)
            if size is None:
                return 0
            place += size
    return place - total


def _format_of(head: bytes) -> Callable[[bytes], int | None] | None:
    """Return the function that reads the whole size of an element from its first 16 bytes, by a file's beginning."""
    if head.startswith(_EBML):
        return _ebml_size
    if head.startswith(b"RIFF"):
        return _riff_size
    return _box_size if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide") else None


def _ebml_size(head: bytes) -> int | None:
    name = next((name for name in (_EBML, _SEGMENT, _VOID) if head.startswith(name)), None)
    if name is None or len(head) < len(name) + 8:
        return None
    # The number of leading zeros of the first byte is that of the further bytes; the bit after them is no part of it.
    first = head[len(name)]
    length = 9 - first.bit_length()
    value = int.from_bytes(head[len(name) : len(name) + length]) - (1 << 7 * length)
    # Live recordings leave the size open: all of its bits are set.
    is_open = length > 8 or value == (1 << 7 * length) - 1
    return None if is_open else len(name) + length + value


def _riff_size(head: bytes) -> int | None:
    # Long files consist of several RIFF chunks. Recorders that were stopped leave 0 or the largest number.
    if len(head) < 8 or not head.startswith(b"RIFF"):
        return None
    (size,) = struct.unpack_from("<I", head, 4)
    return None if size in (0, 2**32 - 1) else 8 + size + size % 2


def _box_size(head: bytes) -> int | None:
    if len(head) < 8 or not (head[4:8].isascii() and head[4:8].decode().isprintable()):
        return None
    size: int
    size, _ = struct.unpack_from(">I4s", head)
    if size == 1 and len(head) >= 16:
        (size,) = struct.unpack_from(">Q", head, 8)
    # A size of 0 means the rest of the file.
    return None if size < 8 else size
