"""`segscape fit`, `validate` and `test`: one config, three subcommands of Lightning's command line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from segscape.cli.config import find_config, load_config
from segscape.training.datamodule import SegmentationDataModule
from segscape.training.report import RunReport
from segscape.training.segmentation import SegmentationTask

_log = logging.getLogger(__name__)


class _CommandLine(LightningCLI):
    """Lightning's command line with our loggers, checkpoints and report, all below `trainer.default_root_dir`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.label_spec", "model.label_spec", apply_on="instantiate")
        parser.add_argument("--ema", type=float | None, default=None, help="decay of an average of the weights")
        parser.add_argument(
            "--save_every_n_steps", type=int, default=500, help="steps between the checkpoints a stopped run resumes from"
        )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self.config[self.subcommand]
        root = Path(config.trainer.default_root_dir or ".")
        extra = kwargs.setdefault("callbacks", [])
        if self.subcommand == "fit":
            checkpoints = root / "checkpoints"
            extra += [
                ModelCheckpoint(checkpoints, "best", monitor="val/miou", mode="max", enable_version_counter=False),
                ModelCheckpoint(
                    checkpoints,
                    "last",
                    every_n_train_steps=config.save_every_n_steps,
                    save_on_train_epoch_end=False,
                    enable_version_counter=False,
                ),
                LearningRateMonitor("step"),
                RunReport(root),
            ]
            if config.ema is not None:
                extra.append(EMAWeightAveraging(decay=config.ema))
        if config.trainer.enable_progress_bar is not False:
            extra.append(RichProgressBar(leave=True))
        kwargs.setdefault("logger", [CSVLogger(root, "csv"), TensorBoardLogger(root, "tensorboard", version="")])
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Go on from the run's last checkpoint, where there is one and no other was named."""
        root = Path(self.trainer.default_root_dir)
        last = root / "checkpoints" / "last.ckpt"
        if self.config.fit.ckpt_path is None and last.is_file():
            _log.info("Going on from %s.", last)
            self.config_init.fit.ckpt_path = str(last)


def run(arguments: list[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Args:
        arguments: The subcommand and its arguments; `--config` takes a path or the name of a shipped config.
    """
    _CommandLine(
        SegmentationTask,
        SegmentationDataModule,
        args=_with_merged_configs(arguments),
        save_config_callback=SaveConfigCallback,
        save_config_kwargs={"overwrite": True},
    )


def _with_merged_configs(arguments: list[str]) -> list[str]:
    """Each `--config NAME` replaced by the settings it stands for, its bases merged."""
    expanded: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        name = None
        if argument in ("--config", "-c") and position + 1 < len(arguments):
            position += 1
            name = arguments[position]
        elif argument.startswith("--config="):
            name = argument.removeprefix("--config=")
        if name is None:
            expanded.append(argument)
        else:
            expanded += ["--config", yaml.safe_dump(load_config(find_config(name)), sort_keys=False)]
        position += 1
    return expanded
