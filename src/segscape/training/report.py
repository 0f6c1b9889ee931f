"""Pictures of a run: the loss and the mIoU over its steps, and a grid of predictions."""

from __future__ import annotations

from pathlib import Path

import lightning as L


class RunReport(L.Callback):
    """Writes the run's pictures when it ends.

    Args:
        root: The run's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
