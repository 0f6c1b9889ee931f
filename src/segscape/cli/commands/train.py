"""`segscape fit`, `validate`, `test` and `predict`: one config, four subcommands of Lightning's command line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from segscape.arguments.training import kind_of
from segscape.checkpoints.card import FOREGROUND
from segscape.cli.output import Output
from segscape.cli.scores import refinement_report, refinement_tables, scores_report, scores_tables
from segscape.files import atomic_path
from segscape.registry import model_entry
from segscape.training.datamodule import JointDataModule, SegmentationDataModule
from segscape.training.optimisers import averaging
from segscape.training.predictions import PredictionWriter
from segscape.training.refinement import PROTOCOL, RefinementTask
from segscape.training.refinement_data import RefinementDataModule
from segscape.training.report import AtomicCheckpoints, RefinementReport, RunReport, SegmentationReport
from segscape.training.segmentation import SegmentationTask
from segscape.training.weights import card_of, is_whole

_log = logging.getLogger(__name__)


class _SaveConfig(SaveConfigCallback):
    """The callback that writes the resolved config of a training run beside its checkpoints."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            with atomic_path(Path(trainer.default_root_dir) / "checkpoints" / "config.yaml") as temporary:
                temporary.write_text(self.parser.dump(self.config))


class _KeptWeights(ModelCheckpoint):
    """The callback that keeps the weights of every so many steps; its own class, for Lightning tells callbacks by it.

    Args:
        folder: Where the files are written.
        steps: The steps from one to the next.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(
            folder,
            "step-{step}",
            auto_insert_metric_name=False,
            every_n_train_steps=steps,
            save_on_train_epoch_end=False,
            save_top_k=-1,
            save_weights_only=True,
        )


class _CommandLine(LightningCLI):
    """Lightning's command line with our loggers, checkpoints and report, all below `trainer.default_root_dir`."""

    report: ClassVar[type[RunReport]]

    def __init__(self, *parts: Any, output: Output, **settings: Any) -> None:
        self.output = output
        super().__init__(*parts, **settings)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--ema", type=float | None, default=None, help="decay of an average of the weights")
        parser.add_argument(
            "--save_every_n_steps",
            type=int,
            default=500,
            help="steps between the checkpoints a stopped run resumes from",
        )
        parser.add_argument(
            "--save_every_n_seconds", type=float | None, default=None, help="seconds between them, in place of steps"
        )
        parser.add_argument(
            "--keep_every_n_steps",
            type=int | None,
            default=None,
            help="steps between the checkpoints of the weights that are all kept, as step-<number>.ckpt",
        )
        parser.add_argument("--predictions", type=str | None, default=None, help="the folder that `predict` writes to")
        parser.add_argument(
            "--train_ids",
            type=bool,
            default=False,
            help="whether `predict` writes class indices, such as Cityscapes' train ids, not raw label values",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Resume from the run's last checkpoint, if there is one and no other is named.

        Only a run that starts from ImageNet weights reads them: the files need not be there afterwards.
        """
        config = self.config[self.subcommand]
        if self.subcommand == "fit" and config.ckpt_path is None:
            last = Path(config.trainer.default_root_dir or ".") / "checkpoints" / "last.ckpt"
            config.ckpt_path = str(_whole_checkpoint(last)) if last.is_file() else None
        if self.subcommand != "fit" or config.ckpt_path is not None:
            config.model.pretrained = None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config = self.config[self.subcommand]
        root = Path(config.trainer.default_root_dir or ".")
        # Those of the config; Lightning would let ours take their place.
        configured = self._get(self.config_init, "trainer", default={}).get("callbacks") or []
        extra = kwargs.setdefault("callbacks", list(configured))
        if self.subcommand == "fit":
            checkpoints = root / "checkpoints"
            extra += [
                *(
                    ModelCheckpoint(checkpoints, name, monitor=monitor, mode="max", enable_version_counter=False)
                    for name, monitor in self.best_by().items()
                ),
                ModelCheckpoint(
                    checkpoints,
                    "last",
                    every_n_train_steps=None if config.save_every_n_seconds else config.save_every_n_steps,
                    train_time_interval=timedelta(seconds=config.save_every_n_seconds)
                    if config.save_every_n_seconds
                    else None,
                    save_on_train_epoch_end=False,
                    enable_version_counter=False,
                ),
                self.report(root),
            ]
            if config.trainer.logger is not False:
                extra.append(LearningRateMonitor("step"))
            if config.keep_every_n_steps is not None:
                extra.append(_KeptWeights(checkpoints, config.keep_every_n_steps))
            if config.ema is not None:
                extra.append(WeightAveraging(multi_avg_fn=averaging(config.ema)))
        if self.subcommand == "predict":
            if config.predictions is None:
                raise ValueError("Name the folder to write to: --predictions FOLDER.")
            extra.append(PredictionWriter(Path(config.predictions), train_ids=config.train_ids))
        if self.output.quiet:
            config.trainer.enable_progress_bar = False
        if config.trainer.enable_progress_bar is not False:
            extra.append(RichProgressBar(leave=True))
        kwargs.setdefault("plugins", []).append(AtomicCheckpoints())
        if config.trainer.logger in (None, True):
            kwargs.setdefault("logger", [CSVLogger(root, "csv"), TensorBoardLogger(root, "tensorboard", version="")])
        return super().instantiate_trainer(**kwargs)

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes that the network has."""
        return FOREGROUND["class_names"]

    def best_by(self) -> dict[str, str]:
        """Return the names of the best checkpoints, each with the score that chooses it."""
        return {"best": self.model.monitor}

    def before_validate(self) -> None:
        """Leave the table to `after_validate`: Lightning's own has one column for all protocols."""
        self.config_init.validate.verbose = False

    def before_test(self) -> None:
        """Leave the table to `after_test`."""
        self.config_init.test.verbose = False

    def before_predict(self) -> None:
        """Keep no prediction in memory: each is written as soon as it is computed."""
        self.config_init.predict.return_predictions = False

    def after_validate(self) -> None:
        """Print the validation scores and write them."""
        self._print_scores("val")

    def after_test(self) -> None:
        """Print the test scores and write them."""
        self._print_scores("test")

    def _print_scores(self, split: str) -> None:
        if not self.trainer.is_global_zero:
            return
        report = self.show_scores(self.output.console, split)
        path = Path(self.trainer.default_root_dir) / f"{split}_scores.json"
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
        _log.info("The scores are in %s.", path)
        self.output.record("scores", split=split, scores=report, file=path)

    def after_fit(self) -> None:
        """Say in JSON what the run has left."""
        if self.trainer.is_global_zero:
            folder = Path(self.trainer.default_root_dir)
            weights = folder / "weights.safetensors"
            self.output.record("run", folder=folder, weights=weights if weights.is_file() else None)

    def after_predict(self) -> None:
        """Say in JSON where the predictions are."""
        if self.trainer.is_global_zero:
            self.output.record("predictions", folder=self.config_init.predict.predictions)

    def show_scores(self, console: Console, split: str) -> dict[str, Any]:
        """Print the scores of a split with their protocols, and return them for a file."""
        raise NotImplementedError

    def before_fit(self) -> None:
        """Report which checkpoint a run resumes from, and have it read without running code in it.

        Raises:
            ValueError: The checkpoint is of a run with another network or other classes.
        """
        path = self.config_init.fit.ckpt_path
        if path is not None:
            _refuse_another_run(Path(path), self.model.network_name, self.class_names())
            _log.info("Going on from %s.", path)
        self.config_init.fit.weights_only = True


def _refuse_another_run(checkpoint: Path, network_name: str, class_names: tuple[str, ...]) -> None:
    """Refuse a checkpoint whose card says another network or other classes than those of this run."""
    found = card_of(checkpoint)
    if found is None:
        return
    advice = "choose another --trainer.default_root_dir, or delete that run to begin anew"
    if found.network != network_name:
        raise ValueError(f"{checkpoint} is of a run of {found.network}, not of {network_name}; {advice}.")
    if found.class_names != class_names:
        raise ValueError(
            f"{checkpoint} is of a run on another data set, with the classes {', '.join(found.class_names)}; here they "
            f"are {', '.join(class_names)}; {advice}."
        )


class _SegmentationCommandLine(_CommandLine):
    report = SegmentationReport

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--best_of_every_protocol",
            type=bool,
            default=False,
            help="whether to keep the best checkpoint by each protocol, beside that by the first",
        )
        for name in ("label_spec", "maps", "unions"):
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def class_names(self) -> tuple[str, ...]:
        return self.model.label_spec.class_names

    def best_by(self) -> dict[str, str]:
        protocols = list(self.model.protocols) if self.config[self.subcommand].best_of_every_protocol else []
        return super().best_by() | {f"best@{name}": f"val@{name}/miou" for name in protocols[1:]}

    def show_scores(self, console: Console, split: str) -> dict[str, Any]:
        for table in scores_tables(self.model):
            console.print(table)
        measured_on = self.datamodule.described(split)
        for name, protocol in self.model.protocols.items():
            console.print(f"{name}: {measured_on}, {protocol}")
        return scores_report(self.model, measured_on)


class _RefinementCommandLine(_CommandLine):
    report = RefinementReport

    def before_instantiate_classes(self) -> None:
        if self.subcommand == "predict":
            raise ValueError("`segscape predict` writes label maps; `segscape refine` writes refined masks.")
        super().before_instantiate_classes()

    def show_scores(self, console: Console, split: str) -> dict[str, Any]:
        for table in refinement_tables(self.model):
            console.print(table)
        measured_on = self.datamodule.measured_on(split)
        console.print(f"{measured_on}: {PROTOCOL}")
        return refinement_report(self.model, measured_on)


class _Run(NamedTuple):
    """What Lightning's command line is made of for a kind of runs."""

    command_line: type[_CommandLine]
    task: type[L.LightningModule]
    data: type[L.LightningDataModule]


_RUNS = {
    "segmentation": _Run(_SegmentationCommandLine, SegmentationTask, SegmentationDataModule),
    "joint": _Run(_SegmentationCommandLine, SegmentationTask, JointDataModule),
    "refinement": _Run(_RefinementCommandLine, RefinementTask, RefinementDataModule),
}


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape fit`, `validate`, `test` or `predict`."""
    # Lightning calls jsonargparse and torch by names that they renamed; its users can do nothing about it.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # A resumed run writes into its own folder, which is not empty.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    if arguments.quiet:
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # A config may name classes of a file beside it, and import one that registers networks.
    sys.path[:0] = [str(folder.resolve()) for folder in arguments.folders]
    for module in arguments.imports:
        import_module(module)
    name = arguments.given.get("model.name")
    refines = isinstance(name, str) and model_entry(name).task == "refinement"
    _command_line(_RUNS["refinement" if refines else kind_of(arguments.given)], arguments)
    return 0


def training_parsers() -> Iterator[tuple[str, LightningArgumentParser]]:
    """Yield the parser of each kind of runs, for the list of all settings."""

    class ParsedError(Exception):
        """Carries a parser out of the constructor, which would go on to train."""

    def stop(self: _CommandLine, parser: LightningArgumentParser, args: Any) -> None:
        raise ParsedError(parser)

    for kind, found in _RUNS.items():
        unparsed = type("Unparsed", (found.command_line,), {"parse_arguments": stop})
        arguments = argparse.Namespace(command="fit", settings=[], json=False, quiet=True)
        try:
            _command_line(found._replace(command_line=unparsed), arguments)
        except ParsedError as parsed:
            yield kind, parsed.args[0]


def _command_line(of: _Run, arguments: argparse.Namespace) -> None:
    """Run Lightning's command line, which does everything while it is constructed."""
    of.command_line(
        of.task,
        of.data,
        output=Output(arguments),
        args=arguments.settings,
        auto_configure_optimizers=False,
        save_config_callback=_SaveConfig,
        save_config_kwargs={"save_to_log_dir": False},
    )


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """Return whether a message of Lightning is about the run, not a tip to install another of its packages."""
    return "Tip:" not in record.getMessage()


def _whole_checkpoint(last: Path) -> Path:
    """Return a run's last checkpoint, or the newest other one if it is damaged, which is logged.

    Raises:
        ValueError: All of them are damaged.
    """
    if is_whole(last):
        return last
    # Those of every so many steps hold weights alone: no run can go on from them.
    others = sorted(last.parent.glob("best*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    previous = next((path for path in others if is_whole(path)), None)
    if previous is None:
        raise ValueError(f"{last} is damaged, and its run has no other checkpoint; delete it to begin anew.")
    _log.warning("%s is damaged; the run goes on from the one before it, %s.", last, previous.name)
    return previous
