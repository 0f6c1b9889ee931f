"""Write the tables of docs/recipes.md from the configs that ship; what is written by hand there stays.

python scripts/recipes_table.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from segscape.checkpoints.shipped import find_weights, list_weights, read_card
from segscape.config_file import PUBLISHED_KEY, find_config, load_config, shipped_configs
from segscape.data.refinement.transforms import RefinementAugmentation
from segscape.data.transforms import CameraAugmentation, MmsegAugmentation, StdcAugmentation
from segscape.evaluation.protocols import EvaluationProtocol
from segscape.losses import CrossEntropy, LossTerm
from segscape.registry import model_entry
from segscape.training.datamodule import JointDataModule, JointSet, SegmentationDataModule
from segscape.training.optimisers import OptimiserSettings
from segscape.training.refinement import PROTOCOL, RefinementTask
from segscape.training.refinement_data import RefinementDataModule
from segscape.training.segmentation import SegmentationTask

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
BEGIN = "<!-- From here on written by scripts/recipes_table.py. -->"
END = "<!-- Up to here written by scripts/recipes_table.py. -->"

OURS = "Our own"
TEST_ALONE = {"crm_resnet50/big"}
"""Configs that train nothing of their own."""


@dataclass(frozen=True)
class Recipe:
    """A config as a run takes it, every default filled in.

    Attributes:
        name: Such as `bisestdc/cityscapes_50`.
        trainer: The settings of Lightning's trainer.
        model: The arguments of `SegmentationTask` or `RefinementTask`, all that is not plain as objects.
        data: The arguments of the data module that goes with it, its augmentation as an object.
        published: `score` and `source`, and the `processes` that the authors trained on; empty for our own recipes.
    """

    name: str
    trainer: dict[str, Any]
    model: Namespace
    data: Namespace
    published: dict[str, Any]

    @property
    def system(self) -> str:
        """The section that the recipe belongs to."""
        if not self.published:
            return OURS
        # A network's file begins with what its authors call the system.
        page = sys.modules[model_entry(self.model.name).build.__module__].__doc__ or ""
        return page.partition(":")[0]

    @property
    def processes(self) -> int:
        """The number of processes that the batch size is meant for."""
        return self.published.get("processes", 1)

    @property
    def refines(self) -> bool:
        """Whether it trains a network that refines masks."""
        return "loss_weights" in self.model

    @property
    def dataset(self) -> str:
        """The data set's name, or those of several; for masks the folders'."""
        if self.refines:
            return " + ".join(self.data.roots or [Path(self.data.root).name])
        if self.is_joint:
            return " + ".join(dict.fromkeys(each.root for each in self.data.sets))
        return self.data.dataset

    @property
    def is_joint(self) -> bool:
        """Whether it trains on several data sets at once."""
        return "sets" in self.data

    @property
    def protocols(self) -> list[EvaluationProtocol]:
        """How a segmentation network is evaluated; the published score is the first one's."""
        return self.model.protocols or [EvaluationProtocol()]


def resolve(name: str, config: dict[str, Any]) -> Recipe:
    """The recipe of a merged config, its parts made by the parser that also `segscape fit` uses."""
    parser = ArgumentParser(exit_on_error=False)
    if model_entry(config["model"]["name"]).task == "refinement":
        parser.add_class_arguments(RefinementTask, "model", instantiate=False)
        parser.add_class_arguments(RefinementDataModule, "data", instantiate=False)
    else:
        linked = {"label_spec", "maps", "unions"}
        parser.add_class_arguments(SegmentationTask, "model", skip=linked, instantiate=False)
        data = JointDataModule if "sets" in config["data"] else SegmentationDataModule
        parser.add_class_arguments(data, "data", instantiate=False)
    parts = parser.instantiate(parser.parse_object({key: config[key] for key in ("model", "data")}))
    return Recipe(name, config["trainer"], parts.model, parts.data, config.get(PUBLISHED_KEY, {}))


def recipes() -> list[Recipe]:
    """Every shipped recipe for a data set, which `finetune` is not."""
    names = [name for name in shipped_configs() if "/" in name and name not in TEST_ALONE]
    return [resolve(name, load_config(find_config(name))) for name in names]


def _by(size: Iterable[int]) -> str:
    return "x".join(map(str, size))


def _data(recipe: Recipe) -> str:
    if recipe.is_joint:
        measured = " + ".join(each.root for each in recipe.data.sets if each.val_split)
        return f"{recipe.dataset} (train; val of {measured})"
    return f"{recipe.dataset} ({recipe.data.train_split}, {recipe.data.val_split or 'nothing'})"


def _length(recipe: Recipe) -> str:
    steps = recipe.trainer.get("max_steps")
    length = f"{steps:,} steps" if steps else f"{recipe.trainer['max_epochs']} epochs"
    joint = recipe.processes * recipe.data.batch_size
    return f"{length} x {joint} ({recipe.processes} x {recipe.data.batch_size})"


def _crop(recipe: Recipe) -> str:
    settings = recipe.data.augmentation
    if isinstance(settings, RefinementAugmentation):
        scale, zoom = (" to ".join(f"{x:g}" for x in dict.fromkeys(span)) for span in (settings.scales, settings.zooms))
        text = f"{_by(settings.crop)} of the image at {scale}" + (f", shrunk by {zoom}" if zoom != "1" else "")
        stages = recipe.model.coarser_stages
        if set(settings.grades) != {"perturbed"}:
            text += f", coarse masks {', '.join(f'{name} {share:g}' for name, share in settings.grades.items())}"
        return text + (f", masks after at most {stages} coarser stage{'s' * (stages > 1)}" if stages else "")
    if isinstance(settings, StdcAugmentation):
        turns = ", quarter turns" if settings.quarter_turns else ""
        return f"{_by(settings.crop)} of the image at {settings.scales[0]:g} to {settings.scales[-1]:g}{turns}"
    if isinstance(settings, CameraAugmentation):
        ranges = [
            each.scale_range(settings.scales) for each in (recipe.data.sets if recipe.is_joint else [JointSet("", "")])
        ]
        spans = ", ".join(dict.fromkeys(f"{low:.2g} to {high:.2g}" for low, high in ranges))
        turns = ", quarter turns" if settings.quarter_turns else ""
        return f"{_by(settings.crop)} of the image at {spans}, as other cameras see it{turns}"
    assert isinstance(settings, MmsegAugmentation)
    low, high = settings.ratios
    ratios = "" if low == high == 1 else f" x {low:g}" if low == high else f" x {low:g} to {high:g}"
    fitted = "fitted into" if settings.keep_ratio else "resized to"
    text = f"{_by(settings.crop)} of the image {fitted} {_by(settings.base)}{ratios}"
    if settings.rotation is None:
        return text
    low, high = settings.rotation.degrees
    return f"{text}, rotated by {low:g} to {high:g} degrees with probability {settings.rotation.probability:g}"


def _optimiser(recipe: Recipe) -> str:
    settings: OptimiserSettings = recipe.model.optimiser
    first, second = settings.betas
    own = f"momentum {settings.momentum:g}" if settings.name == "sgd" else f"betas {first:g} and {second:g}"
    decayed = "everything" if settings.groups == "one" else "convolutions only"
    parts = [
        {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[settings.name],
        f"lr {settings.lr:g}",
        own,
        f"weight decay {settings.weight_decay:g} of {decayed}" if settings.weight_decay else "no weight decay",
    ]
    if settings.groups == "split" and settings.head_lr_factor != 1:
        parts.append(f"lr x {settings.head_lr_factor:g} for fusion and heads")
    if settings.groups == "split" and not settings.train_backbone_norms:
        parts.append("backbone's normalisation not trained")
    return f"{', '.join(parts)}; {_schedule(settings)}"


def _schedule(settings: OptimiserSettings) -> str:
    schedule = settings.schedule
    if schedule.milestones:
        return f"a tenth of it after each of {' and '.join(f'{step:,}' for step in schedule.milestones)} steps"
    decay = f"polynomial decay of power {schedule.power:g} to {schedule.min_lr:g}"
    if schedule.warmup == "none":
        return decay
    first = "0.001" if schedule.warmup == "exponential" else f"{schedule.warmup_ratio:g}"
    return f"{schedule.warmup} warm-up over {schedule.warmup_steps:,} steps from lr x {first}, {decay}"


def _loss(term: LossTerm) -> str:
    loss = term.loss
    if not isinstance(loss, CrossEntropy):
        # What nobody has named is called by its class.
        return getattr(loss, "title", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(loss).__name__).lower())
    weighted = "class-weighted " if loss.class_weights is not None else ""
    return f"{weighted}cross entropy{' over all pixels' if loss.mean_over == 'all' else ''}"


def _start(recipe: Recipe) -> str:
    if recipe.model.weights is not None:
        return f"`{recipe.model.weights}`"
    if isinstance(recipe.model.pretrained, str):
        return recipe.model.pretrained
    sources = (recipe.model.pretrained or {}).items()
    return ", ".join(f"{part}: {Path(source).name}" for part, source in sources) or "scratch"


def _losses(recipe: Recipe) -> str:
    if recipe.refines:
        w = recipe.model.loss_weights
        return f"{w.ce:g} x cross entropy, {w.l1:g} x absolute, {w.l2:g} x squared, {w.grad:g} x edge strength"
    by_loss: dict[str, list[str]] = {}
    for term in recipe.model.losses:
        factor = "" if term.weight == 1 else f"{term.weight:g} x "
        by_loss.setdefault(_loss(term), []).append(factor + " and ".join(term.outputs))
    return "; ".join(f"{loss} of {', '.join(outputs)}" for loss, outputs in by_loss.items())


def _published(recipe: Recipe) -> str:
    return recipe.published.get("score", "")


def _source(recipe: Recipe) -> str:
    return recipe.published.get("source", "")


def _result(recipe: Recipe) -> str:
    if recipe.published:
        return "not reproduced: data not available here"
    weights = recipe.name.replace("/", ".")
    if weights not in list_weights():
        return "no weights ship"
    card = read_card(find_weights(weights))
    score = ", ".join(f"{name} {value:.4f}" for name, value in card.score.items())
    return f"{score} ({card.protocol}), see [weights.md](weights.md)"


COLUMNS: dict[str, Callable[[Recipe], str]] = {
    "config": lambda recipe: f"`{recipe.name}`",
    "data (trained, measured)": _data,
    "steps x joint batch (processes x crops)": _length,
    "crop": _crop,
    "starts from": _start,
    "optimiser": _optimiser,
    "losses": _losses,
    "protocol": lambda recipe: PROTOCOL if recipe.refines else str(recipe.protocols[0]),
    "published": _published,
    "published in": _source,
    "our result": _result,
}


def _common(members: list[Recipe], columns: Iterable[str]) -> dict[str, str]:
    """The columns in which several recipes agree, with what they agree on."""
    if len(members) == 1:
        return {}
    cells = {column: {COLUMNS[column](recipe) for recipe in members} for column in columns}
    return {column: values.pop() for column, values in cells.items() if len(values) == 1}


def _listed(values: dict[str, str]) -> str:
    return "\n".join(f"- {column}: {value}" for column, value in values.items() if value)


def _table(members: list[Recipe], columns: list[str]) -> str:
    rows = [columns, ["---"] * len(columns)]
    rows += [[COLUMNS[column](recipe) for column in columns] for recipe in members]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _block(members: list[Recipe], columns: Iterable[str]) -> list[str]:
    """As a list what recipes have in common, and as a table what they have not."""
    common = _common(members, columns)
    return [_listed(common), _table(members, [column for column in columns if column not in common])]


def section(title: str, members: list[Recipe]) -> str:
    """The recipes of one system, divided by data set where one has several."""
    datasets = dict.fromkeys(recipe.dataset for recipe in members)
    if len(datasets) in (1, len(members)):
        parts = _block(members, COLUMNS)
    else:
        common = _common(members, COLUMNS)
        parts = [_listed(common)]
        for dataset in datasets:
            own = [recipe for recipe in members if recipe.dataset == dataset]
            parts += [f"#### {title}, {dataset}", *_block(own, [name for name in COLUMNS if name not in common])]
    return "\n\n".join([f"### {title}", *filter(None, parts)])


def page(current: str) -> str:
    """The page with its tables written anew.

    Args:
        current: The page as it is, with both marks.
    """
    before, rest = current.split(BEGIN)
    after = rest.split(END)[1]
    found = recipes()
    titles = sorted({recipe.system for recipe in found} - {OURS}, key=str.lower)
    sections = [section(title, [recipe for recipe in found if recipe.system == title]) for title in (*titles, OURS)]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
