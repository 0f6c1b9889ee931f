"""Ways to damage a file: at random places of its bytes, and within its format, past checksums and lengths."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

_NUMBERS = [
    *("0", "-1", "1e308", "-1e308", "NaN", "Infinity", "99999999999999999999", "0.5", "255", "256", "65536"),
    *("2147483647", "-2147483648", "1e-320", "true", "null", '""', "[]", "{}"),
]
_WORDS = ["", "\x00", "\x1b[31m", "[red]", "é" * 300, "../../x", "a" * 5000, "\n", "null", "🙂", "-", "/dev/zero"]
_HEAD = 512
"""Bytes at a file's beginning that are damaged as often as all that follow: formats are decided there."""


def any_bytes(data: bytes, random: Random) -> bytes:
    """Damage a file of any format: flip, overwrite, cut, remove, repeat, insert or exchange bytes."""
    damaged = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 4, 16])):
        if not damaged:
            break
        span = min(len(damaged), _HEAD) if random.random() < 0.5 else len(damaged)
        place, length = random.randrange(span), random.choice([1, 2, 4, 8, 64, 1024])
        match random.randrange(8):
            case 0:
                damaged[place] ^= 1 << random.randrange(8)
            case 1:
                damaged[place : place + length] = random.randbytes(length)
            case 2:
                value = random.choice([0, 1, 0x7F, 0x80, 0xFF])
                damaged[place : place + length] = bytes([value]) * length
            case 3:
                number = random.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**16 - 1, random.randrange(2**32)])
                damaged[place : place + 4] = struct.pack(random.choice("<>") + "I", number)
            case 4:
                del damaged[place : place + length]
            case 5:
                damaged[place:place] = damaged[place : place + length]
            case 6:
                damaged[place:place] = random.randbytes(length)
            case 7:
                del damaged[random.randrange(len(damaged)) :]
    return bytes(damaged)


def text(data: bytes, random: Random) -> bytes:
    """Damage a text: exchange numbers and words, repeat, remove or nest its lines."""
    if random.random() < 0.2:
        return any_bytes(data, random)
    content = data.decode("utf-8", "surrogateescape")
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        numbers = list(re.finditer(r"-?\d+(\.\d+)?", content))
        words = list(re.finditer(r"[A-Za-z_]\w+", content))
        lines = content.splitlines(keepends=True)
        match random.randrange(6):
            case 0 | 1 if numbers:
                found = random.choice(numbers)
                content = content[: found.start()] + random.choice(_NUMBERS) + content[found.end() :]
            case 2 if words:
                found = random.choice(words)
                content = content[: found.start()] + random.choice(_WORDS + _NUMBERS) + content[found.end() :]
            case 3 if lines:
                del lines[random.randrange(len(lines))]
                content = "".join(lines)
            case 4 if lines and len(content) < 100_000:
                place = random.randrange(len(lines))
                lines[place:place] = [random.choice(lines)] * random.choice([1, 1, 100])
                content = "".join(lines)
            case _:
                place = random.randrange(len(content) + 1)
                inserted = random.choice(["[", "]", "{", "}", ":", ",", '"', "'", "&a ", "*a ", "[" * 3000, "\t", "- "])
                content = content[:place] + inserted + content[place:]
    return content.encode("utf-8", "surrogateescape")


def json_values(data: bytes, random: Random) -> bytes:
    """Exchange values of a JSON document, which stays well-formed."""
    try:
        document = json.loads(data)
    except ValueError:
        return text(data, random)
    strange = [None, True, -1, 0, 1e308, float("nan"), 10**30, "", "\x1b[2J", "[red]", [], {}, [[]], "a" * 3000]
    for _ in range(random.choice([1, 1, 2])):
        holders = [(document, None)] if not isinstance(document, dict | list) else []
        stack = [document]
        while stack:
            part = stack.pop()
            keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
            holders += [(part, key) for key in keys]
            stack += [part[key] for key in keys if isinstance(part[key], dict | list)]
        if not holders:
            return json.dumps(random.choice(strange)).encode()
        holder, key = random.choice(holders)
        if key is None:
            document = random.choice(strange)
        elif isinstance(holder, dict) and random.random() < 0.2:
            del holder[key]
        elif isinstance(holder, list) and random.random() < 0.2:
            holder.extend(holder[:1] * random.choice([1, 300]))
        else:
            holder[key] = random.choice(strange)
    return json.dumps(document).encode()


def png(data: bytes, random: Random) -> bytes:
    """Damage the body of a chunk of a PNG, and mend its checksum."""
    if random.random() < 0.4:
        return any_bytes(data, random)
    place, chunks = 8, []
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    number = random.randrange(len(chunks))
    kind, body = chunks[number]
    chunks[number] = kind, any_bytes(body, random)
    if random.random() < 0.2:
        random.shuffle(chunks)
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return data[:8] + b"".join(packed)


def safetensors(data: bytes, random: Random) -> bytes:
    """Damage the header of a weights file, its card, or its tensors."""
    chance = random.random()
    (length,) = struct.unpack_from("<Q", data)
    header, tensors = data[8 : 8 + length], data[8 + length :]
    if chance < 0.2:
        return any_bytes(data, random)
    if chance < 0.3:
        place = random.randrange(len(tensors) // 4) * 4
        special = struct.pack("<e", random.choice([float("nan"), float("inf"), 6e4])) * random.choice([1, 2, 4000])
        return data[:8] + header + tensors[:place] + special + tensors[place + len(special) :]
    if chance < 0.45:
        header = text(header, random)
    else:
        document = json.loads(header)
        metadata = document.get("__metadata__", {})
        if metadata and chance < 0.9:
            key = random.choice(sorted(metadata))
            metadata[key] = (json_values if random.random() < 0.7 else text)(metadata[key].encode(), random).decode(
                "utf-8", "backslashreplace"
            )
            header = json.dumps(document).encode()
        else:
            header = json_values(header, random)
    return struct.pack("<Q", len(header)) + header + tensors


def zipped(data: bytes, random: Random) -> bytes:
    """Damage one file within a PyTorch checkpoint, mostly the pickle, and pack all anew."""
    if random.random() < 0.3:
        return any_bytes(data, random)
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as packed:
        names = source.namelist()
        pickle = next(name for name in names if name.endswith("data.pkl"))
        chosen = pickle if random.random() < 0.8 else random.choice(names)
        for name in names:
            content = source.read(name)
            packed.writestr(name, any_bytes(content, random) if name == chosen else content)
    return target.getvalue()


def journal(data: bytes, random: Random) -> bytes:
    """Damage a line of a journal; half of the time with the checksum that belongs to it."""
    if random.random() < 0.3:
        return any_bytes(data, random)
    lines = data.splitlines(keepends=True)
    place = random.randrange(len(lines))
    content = lines[place].partition(b" ")[2].rstrip(b"\n")
    content = (json_values if random.random() < 0.6 else text)(content, random).replace(b"\n", b" ")
    checksum = zlib.crc32(content) if random.random() < 0.5 else random.randrange(2**32)
    lines[place] = b"%08x %s\n" % (checksum, content)
    return b"".join(lines)
