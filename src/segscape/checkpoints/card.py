"""The card of a weights file: everything needed to use the weights, stored in the file itself."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from segscape.normalisation import Normalisation

METADATA_KEY = "segscape"
"""The key in a safetensors file's metadata under which its card is stored, as JSON."""

CHECKPOINT_KEY = "segscape_card"
"""The key in a checkpoint of `segscape fit` under which the card of its weights is stored, as JSON."""

FOREGROUND: dict[str, Any] = {"class_names": ("foreground",), "palette": ((255, 255, 255),)}
"""The classes on the card of a network that refines masks: only the object."""


@dataclass(frozen=True)
class WeightsCard:
    """The metadata of a weights file.

    Attributes:
        network: The registered name of the network.
        class_names: The names of the K classes, in the order of the logits.
        palette: A colour (red, green, blue) for each class.
        normalisation: The normalisation of the network's input images.
        training_size: (height, width) of the images or crops it was trained on, in pixels, where known.
        working_size: The shorter side of photographs, in pixels, at which the network works best, where known.
        working_resolution: The finest and the coarsest ground resolution at which it was trained, in metres a pixel,
            where known.
        training: How and on what it was trained, or where it was converted from.
        score: The score by name, such as `{"miou": 0.7}`, each between 0 and 1.
        protocol: How the score was measured.
        licence: The terms on which the weights may be used, data included.
        least_side: For weights that refine masks, the smallest shorter side of the image at a stage's scale, in pixels,
            at which the stage improves the mask, where known; see `segscape.Refiner`.
        origin: The code base whose checkpoint it was converted from, if it was.
    """

    network: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    normalisation: Normalisation
    training_size: tuple[int, int] | None = None
    working_size: int | None = None
    working_resolution: tuple[float, float] | None = None
    training: str = "not stated"
    score: dict[str, float] = dataclasses.field(default_factory=dict)
    protocol: str = "not measured"
    licence: str = "not stated"
    least_side: int | None = None
    origin: str | None = None

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def mirrored_classes(self) -> list[int]:
        """The class that each becomes in a mirrored image: `right ...` for `left ...` if that exists, else itself."""
        swapped = {"left": "right", "right": "left"}
        places = {name.lower(): place for place, name in enumerate(self.class_names)}
        words = (re.split(r"([ _-])", name.lower(), maxsplit=1) for name in self.class_names)
        images = (swapped.get(first, first) + "".join(rest) for first, *rest in words)
        return [places.get(image, place) for place, image in enumerate(images)]

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps({**dataclasses.asdict(self), "num_classes": self.num_classes})

    @classmethod
    def from_json(cls, text: str) -> WeightsCard:
        """Read a card that `to_json` wrote.

        Raises:
            ValueError: The text is not such a card.
        """
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise ValueError("it is no list of fields")
            fields.pop("num_classes", None)
            size = fields.pop("training_size", None)
            resolution = fields.pop("working_resolution", None)
            norm = fields.pop("normalisation")
            card = cls(
                class_names=tuple(fields.pop("class_names")),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in fields.pop("palette")),
                normalisation=Normalisation(tuple(norm["mean"]), tuple(norm["std"])),
                training_size=None if size is None else (int(size[0]), int(size[1])),
                working_resolution=None if resolution is None else (float(resolution[0]), float(resolution[1])),
                **fields,
            )
            card.check()
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"its card is damaged: {_reason(error)}") from None
        return card

    def check(self) -> None:
        """Refuse values that no network could be used with, as a stranger's file may hold.

        Raises:
            ValueError: The message names the first of them.
        """
        texts = {"network": self.network, "training": self.training, "protocol": self.protocol}
        texts |= {"licence": self.licence, "origin": self.origin or ""}
        texts |= {f"name of class {number}": name for number, name in enumerate(self.class_names)}
        for what, text in texts.items():
            if not isinstance(text, str) or not text.isprintable():
                raise ValueError(f"the {what} is no text of printable characters")
        if not self.class_names:
            raise ValueError("it has no classes")
        if len(self.palette) != self.num_classes:
            raise ValueError(f"it has {len(self.palette)} colours for {self.num_classes} classes")
        if not all(0 <= channel <= 255 for colour in self.palette for channel in colour):
            raise ValueError("a colour is not of levels from 0 to 255")
        mean, std = self.normalisation.mean, self.normalisation.std
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError(f"images cannot be normalised by mean {mean} and deviation {std}")
        sizes = [*(self.training_size or ()), *(x for x in (self.working_size, self.least_side) if x is not None)]
        if not all(isinstance(side, int) and side >= 0 for side in sizes):
            raise ValueError("a size is no number of pixels")
        resolution = self.working_resolution or (1.0, 1.0)
        if not all(map(math.isfinite, resolution)) or not 0 < resolution[0] <= resolution[1]:
            raise ValueError(f"the working resolution cannot be {resolution}")
        if not all(math.isfinite(value) for value in self.score.values()):
            raise ValueError("a score is no number")


def _reason(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__} {error}"[:200]
