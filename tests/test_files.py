"""Files that appear whole or not at all."""

import subprocess
import sys
from pathlib import Path

from segscape.files import _remove_left_over, atomic_path


def test_what_a_killed_process_leaves_is_removed_by_the_next_write(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from segscape.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    temporary.with_name(temporary.name + '.ovr.tmp').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "deeper" / "a.txt"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert len(list(path.parent.iterdir())) == 2
    with atomic_path(path.with_name("own.txt")) as running:
        running.write_text("of a process that runs")
        _remove_left_over.cache_clear()
        with atomic_path(path) as temporary:
            temporary.write_text("whole")
        assert sorted(path.parent.iterdir()) == sorted([running, path])
