"""What a label specification is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = 255
"""The index of pixels without a label in every label map that Segscape holds in memory."""

Colour = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""


@dataclass(frozen=True)
class LabelSpec:
    """Names and colours of K classes, and how a data set's files spell them.

    Attributes:
        name: The data set whose classes these are.
        class_names: K names, in the order of the class indices 0 to K-1.
        palette: K colours (red, green, blue), each 0 to 255.
        raw_to_index: For each value that may stand in a label file, its class index, or `ignore_index`.
        ignore_index: The index of pixels that count in no loss and no score.
        excluded: Classes that are trained and predicted, but left out of the mean IoU.
        flip_pairs: Pairs of classes that change places when an image is mirrored, such as left and right arm.
        colour_to_index: For each colour that may stand in a colour-coded label file, its class index, or
            `ignore_index`; empty where there are no such files.
        raw_palette: The colours of the raw values 0, 1, ... in files that hold raw values; by default, for all 256,
            those of their classes, and black for the values that stand for no class.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[Colour, ...]
    raw_to_index: Mapping[int, int]
    ignore_index: int = IGNORE_INDEX
    excluded: tuple[int, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    colour_to_index: Mapping[Colour, int] = field(default_factory=dict)
    raw_palette: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.class_names) == len(self.palette), f"{self.name}: a class has no colour, or a colour no class"
        classes = set(range(self.num_classes))
        allowed = {*classes, self.ignore_index}
        assert set(self.raw_to_index.values()) <= allowed, f"{self.name}: a raw value maps outside the classes"
        assert set(self.colour_to_index.values()) <= allowed, f"{self.name}: a colour maps outside the classes"
        assert classes <= set(self.raw_to_index.values()), f"{self.name}: a class has no raw value"
        paired = [index for pair in self.flip_pairs for index in pair]
        assert classes.issuperset({*self.excluded, *paired}), f"{self.name}: it has no such class"
        if not self.raw_palette:
            classes_of = {raw: index for raw, index in self.raw_to_index.items() if index != self.ignore_index}
            colours = [self.palette[classes_of[raw]] if raw in classes_of else (0, 0, 0) for raw in range(256)]
            object.__setattr__(self, "raw_palette", tuple(colours))

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @cached_property
    def _table(self) -> npt.NDArray[np.int16]:
        table = np.full(256, -1, np.int16)
        for raw, index in self.raw_to_index.items():
            table[raw % 256] = index
        return table

    @cached_property
    def _colour_table(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
        """The colours as sorted numbers, and the index of each."""
        colours = self.colour_to_index.items()
        rows = sorted(((red << 16) | (green << 8) | blue, index) for (red, green, blue), index in colours)
        return np.array([number for number, _ in rows], np.uint32), np.array([index for _, index in rows], np.uint8)

    def to_indices(
        self, raw: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Class indices of a label file's values.

        Some programs sort the palette of a file that they save, or drop the colours that do not occur, so that the
        values no longer stand for what they did. Where the palette shows this, the colours decide.

        Args:
            raw: (H, W) uint8, the values of the file. A raw value of -1 stands in 8-bit files as 255.
            palette: (256, 3) uint8, the file's colours, red, green, blue, if it has some.

        Returns:
            (H, W) uint8: class indices, and `ignore_index` where there is no label.

        Raises:
            ValueError: A value is in no row of the table; the message names the values and their pixel counts. Or the
                palette contradicts the classes and has colours of none, too.
        """
        indices = (self._table if palette is None else self._table_of(np.unique(raw).tolist(), palette))[raw]
        self._refuse(raw[indices < 0], "label values", self.raw_to_index)
        return indices.astype(np.uint8)

    def _table_of(self, used: list[int], palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
        """The index of each value of a file with a palette: of its colour if values have those of other classes."""
        colours: dict[int, Colour] = {value: tuple(palette[value].tolist()) for value in used}
        if all(colour == (value, value, value) for value, colour in colours.items()):
            return self._table  # shades of grey, which are nobody's choice
        known, usual = self._index_of_colour, dict(enumerate(self.raw_palette))
        moved = [
            value
            for value, colour in colours.items()
            if known.get(colour, self._table[value]) != self._table[value] and colour != usual.get(value, (0, 0, 0))
        ]
        if not moved:
            return self._table
        strange = [value for value, colour in colours.items() if colour not in known]
        if strange:
            raise ValueError(
                f"a palette that contradicts the classes of {self.name}: its value {moved[0]} has the colour "
                f"{colours[moved[0]]}, that of another class, and its value {strange[0]} has {colours[strange[0]]}, "
                f"that of none; save it without a palette, or with the colours of the classes"
            )
        table = np.full(256, -1, np.int16)
        table[used] = [known[colours[value]] for value in used]
        return table

    @cached_property
    def _index_of_colour(self) -> dict[Colour, int]:
        """The index that each colour stands for, where it is of one class only."""
        own = {colour: index for index, colour in enumerate(self.palette) if self.palette.count(colour) == 1}
        return {**own, **self.colour_to_index}

    def check_indices(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The values of a label file that holds class indices already, once they are found to be nothing else.

        Args:
            values: (H, W) uint8, class indices, and `ignore_index` where there is no label.

        Returns:
            A copy of them.

        Raises:
            ValueError: A value is no class index; the message names the values and their pixel counts.
        """
        strange = (values >= self.num_classes) & (values != self.ignore_index)
        self._refuse(values[strange], "class indices", [*range(self.num_classes), self.ignore_index])
        return values.copy()

    def colours_to_indices(self, colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Class indices of a colour-coded label file.

        Args:
            colours: (H, W, 3) uint8, red, green, blue.

        Returns:
            (H, W) uint8: class indices, and `ignore_index` where there is no label.

        Raises:
            ValueError: A colour is in no row of the table; the message names the colours and their pixel counts.
        """
        numbers, indices = self._colour_table
        red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
        packed = (red << 16) | (green << 8) | blue
        rows = np.searchsorted(numbers, packed).clip(max=len(numbers) - 1)
        strange = packed[numbers[rows] != packed]
        if strange.size:
            values, counts = np.unique(strange, return_counts=True)
            listed = ", ".join(
                f"{(int(value) >> 16, int(value) >> 8 & 255, int(value) & 255)} ({count} pixels)"
                for value, count in zip(values[:8], counts[:8], strict=True)
            )
            raise ValueError(f"colours that {self.name} does not have: {listed}")
        return indices[rows]

    def to_raw(self, indices: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The values that a label file has for class indices: the inverse of `to_indices`.

        Args:
            indices: (H, W) uint8, class indices, and `ignore_index` where there is no label.

        Returns:
            (H, W) uint8. Of several values for one class, or for no label, the first of `raw_to_index` is taken.

        Raises:
            ValueError: An index is no class, or `ignore_index` in a data set without unlabelled pixels.
        """
        table = np.full(256, -1, np.int16)
        for raw, index in reversed(list(self.raw_to_index.items())):
            table[index] = raw % 256
        raw_values = table[indices]
        self._refuse(indices[raw_values < 0], "class indices", set(self.raw_to_index.values()))
        return raw_values.astype(np.uint8)

    def _refuse(self, strange: npt.NDArray[np.uint8], what: str, known: Iterable[int]) -> None:
        if strange.size:
            values, counts = np.unique(strange, return_counts=True)
            listed = ", ".join(f"{value} ({count} pixels)" for value, count in zip(values[:8], counts[:8], strict=True))
            raise ValueError(f"{what} that {self.name} does not have: {listed}; its values are {_ranges(known)}")


def _ranges(values: Iterable[int]) -> str:
    """Numbers in order, runs of them as `first to last`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
