"""Libraries that are called report nothing, and a cluster of this machine alone is not reachable from others."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def _run(program: str, home: Path) -> str:
    # OpenVINO is silent in continuous integration by itself.
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**kept, "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs OpenVINO")
def test_openvino_writes_and_sends_nothing(tmp_path: Path) -> None:
    program = """
import sys, torch, segscape
from segscape.runtime.graphs import openvino_model
from segscape.runtime.openvino import openvino_core
import importlib.util
if importlib.util.find_spec("nncf"):
    import nncf
openvino_model(segscape.create_model("stdc1_seg", 2).eval(), size=(64, 64), labels=False)
openvino_core()
print([name for name in sys.modules if name.startswith("openvino_telemetry.")])
"""
    assert _run(program, tmp_path).splitlines()[-1] == "[]"
    assert not [path for path in tmp_path.rglob("*") if "intel" in str(path).lower() or "telemetry" in str(path)]


@pytest.mark.skipif(not (find_spec("ray") and find_spec("psutil")), reason="needs Ray and psutil")
def test_a_local_cluster_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    program = """
from segscape.scenes.cluster.connection import connection
import psutil
with connection(None):
    own = psutil.Process()
    listening = {
        place.laddr.ip
        for process in [own, *own.children(recursive=True)]
        for place in process.net_connections("tcp")
        if place.status == psutil.CONN_LISTEN
    }
print(sorted(listening))
"""
    said = _run(program, tmp_path).splitlines()[-1]
    assert "127.0.0.1" in said
    assert all(address.endswith(("127.0.0.1'", "::1'")) for address in said.strip("[]").split(", ")), said
