"""The script that makes golden files, on a stand-in for official code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.golden import fill

ROOT = Path(__file__).parents[1]
OFFICIAL = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, width, 3)
        self.norm = torch.nn.BatchNorm2d(width)

    def forward(self, x):
        y = self.stem(x)
        return {"logits": self.norm(y), "aux": (y, -y)}
"""


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "scripts" / "make_golden.py"
    return subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)


def test_numbers_of_official_code(tmp_path: Path) -> None:
    code = tmp_path / "official"
    code.mkdir()
    (code / "nets.py").write_text(OFFICIAL)
    output = tmp_path / "golden" / "golden_net.npz"
    words = ["--arguments", '{"width": 4}', "--image", "a", "1x3x9x7", "--features", "stem", "--output", str(output)]
    assert _run(str(code), "nets:Net", *words).returncode == 0
    found = np.load(output)
    shapes = json.loads((tmp_path / "golden" / "keys_net.json").read_text())
    weights = {key: torch.tensor(value) for key, value in fill.state_dict(shapes).items()}
    images = torch.tensor(fill.image("a", (1, 3, 9, 7)))
    stem = nn.functional.conv2d(images, weights["stem.weight"], weights["stem.bias"])
    assert set(found) == {"a.output.logits", "a.output.aux.0", "a.output.aux.1", "a.feature.stem"}
    np.testing.assert_allclose(found["a.feature.stem"], stem, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found["a.output.aux.1"], -found["a.feature.stem"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = _run(str(tmp_path / "none"), "nets:Net", "--image", "a", "1x3x9x7", "--output", str(tmp_path / "g.npz"))
    assert done.returncode == 1
    assert "is no folder" in done.stderr
    assert not list(tmp_path.iterdir())
