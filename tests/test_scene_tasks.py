"""The tasks of a scene: done in order, recorded, taken up again, with reading and writing in threads beside them."""

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from segscape.concurrency import BackgroundWriter, Prefetcher
from segscape.scenes.journal import Journal
from segscape.scenes.pipeline import WorkerSequence, joined, open_tasks, run_tasks
from segscape.scenes.task import Sums, Task


def test_a_journal_is_taken_up_again(tmp_path: Path) -> None:
    path, run_signature = tmp_path / "new" / "journal", {"image": ["a", 1], "plan": (1, 2)}
    assert Journal.signature_of(path) is None
    first = Journal(path, run_signature)
    first.add(Task(0, 1), {"mean": [0.1, 1e-17]})
    first.add(Task(0, 0), {})
    first.close()
    assert Journal.signature_of(path) == json.loads(json.dumps(run_signature))
    again = Journal(path, run_signature)
    assert again.done == {Task(0, 1): {"mean": [0.1, 1e-17]}, Task(0, 0): {}}
    again.add(Task(1, 0), {"other": [2.0]})
    again.close()
    assert len(path.read_text().splitlines()) == 4
    assert list(Journal(path, run_signature).done) == [Task(0, 1), Task(0, 0), Task(1, 0)]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_cut_short_anywhere(data: st.DataObject, tmp_path: Path) -> None:
    path, run_signature = tmp_path / "journal", {"image": "a\nb"}
    path.unlink(missing_ok=True)
    journal = Journal(path, run_signature)
    for block in range(3):
        journal.add(Task(0, block), {"mean": [float(block)]})
    journal.close()
    whole = path.read_bytes()
    left = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(left)
    lines = left.count(b"\n")
    assert (Journal.signature_of(path) is None) == (lines == 0)
    journal = Journal(path, run_signature)
    assert list(journal.done) == [Task(0, block) for block in range(max(lines - 1, 0))]
    for block in range(len(journal.done), 3):
        journal.add(Task(0, block), {"mean": [float(block)]})
    journal.close()
    assert path.read_bytes() == whole


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_damaged_anywhere_begins_anew(data: st.DataObject, tmp_path: Path, caplog) -> None:
    """Not a digit of a sum may change in silence."""
    path, run_signature = tmp_path / "journal", {"image": "a", "plan": [1.5]}
    path.unlink(missing_ok=True)
    journal = Journal(path, run_signature)
    journal.add(Task(0, 0), {"mean": [0.125]})
    journal.add(Task(0, 1), {"mean": [0.25]})
    journal.close()
    whole = path.read_bytes()
    place, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    damaged = bytearray(whole)
    damaged[place] = value
    path.write_bytes(damaged)
    caplog.clear()
    journal = Journal(path, run_signature)
    journal.close()
    if bytes(damaged) == whole:
        assert len(journal.done) == 2
    elif place == len(whole) - 1:
        # Without its end the last line is what a killed process leaves.
        assert len(journal.done) == 1
    else:
        assert not journal.done
        assert "what is noted of an interrupted run is damaged; the scene is begun anew" in caplog.text
        assert path.read_bytes() == whole[: whole.index(b"\n") + 1]


@pytest.mark.parametrize("content", [b"5\n", b"[1, 2]\n", b"\xff\xfe\n", b'{"image": "a"}\n', b"[" * 10_000 + b"\n"])
def test_what_is_no_journal_begins_anew(content: bytes, tmp_path: Path, caplog) -> None:
    (tmp_path / "journal").write_bytes(content)
    assert Journal.signature_of(tmp_path / "journal") is None
    assert not Journal(tmp_path / "journal", {"image": "a"}).done
    assert "is damaged" in caplog.text


def test_a_journal_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, {"image": "a", "weights": "b", "plan": [1]}).close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"another state of: image, plan\. .*or delete the folder"):
        Journal(path, {"image": "c", "weights": "b", "plan": [2]})
    assert path.read_bytes() == before
    Journal(path, {"image": "a", "weights": "b", "plan": (1,)}).close()


def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {})
    code = """
import sys, pathlib
from segscape.scenes.journal import Journal
Journal(pathlib.Path(sys.argv[1]), {})
"""
    command = [sys.executable, "-c", code, str(tmp_path / "journal")]
    other = subprocess.run(command, capture_output=True, text=True)
    assert other.returncode == 1
    assert "Another process is at work in" in other.stderr
    journal.close()
    assert subprocess.run(command).returncode == 0


class _Worker:
    """Tasks that leave their names and what they were given; may fail at one of them."""

    def __init__(self, name: str, blocks: Sequence[int], log: list, fails_at: Task | None = None) -> None:
        self.name, self.blocks, self.log, self.fails_at = name, blocks, log, fails_at

    def tasks(self) -> list[list[Task]]:
        return [[Task(sweep, block) for block in range(count)] for sweep, count in enumerate(self.blocks)]

    def work(self, task: Task) -> float:
        return 1.0 + task.sweep

    def run(self, task: Task, sums: Mapping[str, Sequence[float]], on_progress: Callable[[float], None]) -> Sums:
        if task == self.fails_at:
            raise KeyboardInterrupt
        on_progress(0.5)
        self.log.append((self.name, task, dict(sums)))
        return {f"of {task.sweep}": [float(task.block), 1.0]}


def test_stages_follow_each_other(tmp_path: Path) -> None:
    log: list = []
    stages = WorkerSequence([_Worker("a", (2, 1), log), _Worker("b", (1, 2), log)])
    assert stages.tasks() == [[(0, 0), (0, 1)], [(1, 0)], [(2, 0)], [(3, 0), (3, 1)]]
    assert [stages.work(sweep[0]) for sweep in stages.tasks()] == [1, 2, 1, 2]
    shares: list[float] = []
    run_tasks(stages, Journal(tmp_path / "journal", {}), on_progress=shares.append)
    # Each worker is given its own sums alone, although both use the same names.
    of_a, of_b = {"of 0": [1.0, 2.0]}, {"of 0": [0.0, 1.0]}
    assert log == [
        *[("a", Task(0, 0), {}), ("a", Task(0, 1), {}), ("a", Task(1, 0), of_a)],
        *[("b", Task(0, 0), {}), ("b", Task(1, 0), of_b), ("b", Task(1, 1), of_b)],
    ]
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.5 / 9)
    assert shares[-1] == pytest.approx(1)


@pytest.mark.parametrize(("fails_at", "done"), [(Task(0, 0), 0), (Task(0, 2), 2), (Task(1, 1), 5)])
def test_an_interrupted_run_goes_on(fails_at: Task, done: int, tmp_path: Path) -> None:
    log: list = []
    interrupted = Journal(tmp_path / "journal", {})
    with pytest.raises(KeyboardInterrupt):
        run_tasks(_Worker("a", (3, 2), log, fails_at), interrupted, on_progress=lambda share: None)
    interrupted.close()
    shares: list[float] = []
    run_tasks(_Worker("a", (3, 2), log), Journal(tmp_path / "journal", {}), on_progress=shares.append)
    assert [task for _, task, _ in log] == [Task(0, 0), Task(0, 1), Task(0, 2), Task(1, 0), Task(1, 1)]
    assert shares[0] == pytest.approx((done + 0.5 * (1 + fails_at.sweep)) / 7)


def test_open_tasks(tmp_path: Path) -> None:
    worker, journal = _Worker("a", (3, 2), []), Journal(tmp_path / "journal", {})
    assert open_tasks(worker, journal) == ([Task(0, 0), Task(0, 1), Task(0, 2)], {})
    journal.add(Task(0, 2), {"mean": [1.0]})
    journal.add(Task(0, 0), {"mean": [0.5]})
    assert open_tasks(worker, journal) == ([Task(0, 1)], {})
    journal.add(Task(0, 1), {})
    assert open_tasks(worker, journal) == ([Task(1, 0), Task(1, 1)], {"mean": [1.5]})
    journal.add(Task(1, 0), {})
    journal.add(Task(1, 1), {})
    assert open_tasks(worker, journal)[0] == []


def test_sums_do_not_depend_on_who_was_first(tmp_path: Path) -> None:
    parts = [1e16, 1.0, -1e16, 3.0]
    found = []
    for number, order in enumerate(itertools.permutations(range(4))):
        journal = Journal(tmp_path / f"{number}", {})
        for block in order:
            journal.add(Task(0, block), {"mean": [parts[block]]})
        found.append(open_tasks(_Worker("a", (4, 1), []), journal)[1]["mean"])
    assert all(total == found[0] for total in found)


@given(parts=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2), min_size=1, max_size=9))
def test_sums_are_joined_by_channel(parts: list[list[float]]) -> None:
    total = joined([{"a": part, **({"b": part} if place else {})} for place, part in enumerate(parts)])
    np.testing.assert_allclose(total["a"], np.array(parts).sum(0), atol=1e-9)
    assert ("b" in total) == (len(parts) > 1)
    if len(parts) > 1:
        np.testing.assert_allclose(total["b"], np.array(parts[1:]).sum(0), atol=1e-9)


def test_reading_ahead_keeps_the_order() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            made.append(item)
            yield item

    with Prefetcher(items(), count=3) as ready:
        for number, item in enumerate(ready):
            assert item == number
            # Those that wait, the one in hand, and one in the making.
            assert len(made) <= number + 1 + 3 + 1
    assert made == list(range(50))


def test_an_error_ahead_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        raise OSError("damaged")

    before, given = threading.active_count(), []
    with pytest.raises(OSError, match="damaged"), Prefetcher(items()) as ready:
        given.extend(ready)
    assert given == [0, 1]
    assert threading.active_count() == before


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_whoever_stops_early_leaves_no_thread(taken: int) -> None:
    before = threading.active_count()
    with Prefetcher(itertools.count()) as ready:
        assert list(itertools.islice(ready, taken)) == list(range(taken))
    assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError), Prefetcher(itertools.count()):
        _ = 1 / 0
    assert threading.active_count() == before


def test_calls_behind_are_made_in_order() -> None:
    before, made = threading.active_count(), []

    def call(number: int) -> None:
        time.sleep(0.002 if number % 2 else 0)
        made.append((number, threading.current_thread()))

    with BackgroundWriter(count=2) as writer:
        for number in range(20):
            writer(call, number)
            assert len(made) >= number - 2
    assert [number for number, _ in made] == list(range(20))
    assert {thread for _, thread in made}.isdisjoint({threading.current_thread()})
    assert threading.active_count() == before


def _fail() -> None:
    raise OSError("disk full")


def test_an_error_behind_is_raised_on_leaving() -> None:
    before, made = threading.active_count(), []

    def write() -> None:
        with BackgroundWriter() as writer:
            writer(made.append, 0)
            writer(_fail)

    with pytest.raises(OSError, match="disk full"):
        write()
    assert made == [0]
    assert threading.active_count() == before


def test_an_error_behind_is_raised_at_a_later_call() -> None:
    with BackgroundWriter(count=2) as writer:
        writer(_fail)
        writer(int)
        with pytest.raises(OSError, match="disk full"):
            writer(int)


def test_an_error_of_the_block_is_not_hidden_by_one_writer() -> None:
    before = threading.active_count()

    def write() -> None:
        with BackgroundWriter() as writer:
            writer(_fail)
            raise ValueError("damaged image")

    with pytest.raises(ValueError, match="damaged image"):
        write()
    assert threading.active_count() == before
