"""Code beside a config: a loss and a network of one's own, trained without installing anything."""

from pathlib import Path

import pytest

from segscape.checkpoints.shipped import read_card
from segscape.cli.main import main
from tests.fake.data_sets import WRITERS

NETWORK = '''
from torch import nn
from segscape.networks.base import Parts, SegmentationNetwork, SegmentationOutput
from segscape.networks.layers import ConvNormAct, SegmentationHead
from segscape.registry import register_model

class Tiny(SegmentationNetwork):
    """Two convolutions."""

    stride = 2
    parts = Parts(new=("head",))

    def __init__(self, num_classes):
        super().__init__()
        self.stem = ConvNormAct(3, 8, 3, stride=2)
        self.head = SegmentationHead(8, 8, num_classes)

    def forward(self, images):
        logits = self.head(self.stem(images))
        return SegmentationOutput(logits, {}) if self.training else logits

@register_model()
def tiny_of_mine(num_classes):
    """Tiny."""
    return Tiny(num_classes)

class Focal(nn.Module):
    """(1 - p) ** gamma times the cross entropy."""

    title = "focal"

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, labels):
        entropy = nn.functional.cross_entropy(logits, labels.long(), reduction="none", ignore_index=255)
        return ((1 - (-entropy).exp()) ** self.gamma * entropy).mean()
'''

CONFIG = """
base: stdc1_seg/camvid
import: my_network
trainer: {max_epochs: 1, limit_train_batches: 1, limit_val_batches: 2, default_root_dir: %s}
model:
  name: tiny_of_mine
  losses: [{output: logits, loss: {class_path: my_network.Focal, init_args: {gamma: 2.0}}}]
data: {root: %s, num_workers: 0, batch_size: 2}
"""


def test_a_network_and_a_loss_beside_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    WRITERS["camvid"](tmp_path / "camvid")
    (tmp_path / "my_network.py").write_text(NETWORK)
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG % (tmp_path / "run", tmp_path / "camvid"))
    assert main(["fit", "--config", str(config)]) == 0
    assert read_card(tmp_path / "run" / "weights.safetensors").network == "tiny_of_mine"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import: 5", "`import` must be the name of a module, or a list of them."),
        ("import: not_there_at_all", "not_there_at_all"),
    ],
)
def test_an_import_that_cannot_be(line: str, said: str, tmp_path: Path, capsys) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"base: stdc1_seg/camvid\n{line}\ndata: {{root: {tmp_path}}}\n")
    assert main(["fit", "--config", str(config)]) == 1
    assert said in capsys.readouterr().err
