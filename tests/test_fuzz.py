"""The campaign of damaged files: the same seed makes the same files, and what is wrong is found. It runs by itself."""

import json
import struct
import zlib
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import campaign, mutations
from tests.fuzz.kinds import Kind

TEXT = b'{"a": [1, 2.5], "b": {"c": "word"}}\nsecond: 3\n'


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("mutation", [mutations.any_bytes, mutations.text, mutations.json_values])
def test_a_seed_makes_the_same_files(mutation: mutations.Mutation) -> None:
    made = [[mutation(TEXT, Random(f"0/{number}")) for number in range(50)] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(each != TEXT for each in made[0]) > 45
    assert len(set(made[0])) > 40


def test_checksums_are_mended_to_get_past_them() -> None:
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + chunk(b"IDAT", bytes(99)) + chunk(b"IEND", b"")
    journal = b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in (b'{"a": 1}', b'{"b": [2.5]}'))
    whole = 0
    for number in range(60):
        checksum, _, text = mutations.journal(journal, Random(number)).partition(b"\n")[0].partition(b" ")
        whole += checksum == b"%08x" % zlib.crc32(text)
        made = mutations.png(png, Random(number))
        if made[8:16] == png[8:16] and len(made) > 33:
            whole += struct.unpack_from(">I", made, 29)[0] == zlib.crc32(made[12:29])
    assert whole > 60
    made = [json.loads(mutations.json_values(b"[1, 2]", Random(number))) for number in range(20)]
    assert sum(document != [1, 2] for document in made) > 15


@pytest.mark.parametrize(
    ("status", "text", "memory", "found"),
    [
        (0, "done", 0, None),
        (1, "error: a.png cannot be decoded.", 0, None),
        (None, "", 0, "does not end"),
        (-11, "", 0, "ended by signal 11"),
        (1, "Traceback (most recent call last):\nKeyError: 'a'", 0, "traceback, status 1: KeyError"),
        (70, "", 0, "traceback, status 70"),
        (1, "error: a.tif could not be done (KeyError: 'plan').", 0, "an error named by its type: KeyError"),
        (0, "done", 2 << 30, "takes 2.1 GB"),
        (1, "error: " + "a" * 9000, 0, "says 9007 characters"),
        (1, "error: \x1b[31m", 0, "prints control characters"),
    ],
)
def test_what_is_wrong_is_found(status, text: str, memory: int, found: str | None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(campaign._kinds, "png", Kind(1, (), mutations.png, lambda path, output: ()))
    wrong = campaign.judge("png", status, text, memory, tmp_path)
    assert wrong is None if found is None else wrong.startswith(found)


def test_results_are_looked_at(tmp_path: Path, monkeypatch) -> None:
    kind = Kind(1, (), mutations.png, lambda path, output: (), {"a.json": b"{}"})
    monkeypatch.setitem(campaign._kinds, "journal", kind)
    (tmp_path / "output").mkdir()
    result = tmp_path / "output" / "a.json"
    result.write_text("{}")
    assert campaign.judge("journal", 0, "", 0, tmp_path) is None
    result.write_text("[1]")
    assert campaign.judge("journal", 0, "", 0, tmp_path) == "a.json is another one"
    result.write_text("[1")
    assert campaign.judge("journal", 1, "", 0, tmp_path) == "half-written: a.json"
    result.rename(result.with_name(".x.partial.json"))
    assert campaign.judge("journal", 1, "", 0, tmp_path) == "leaves .x.partial.json"
