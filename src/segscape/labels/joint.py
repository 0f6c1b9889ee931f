"""Data sets whose classes differ, trained and measured together: each class stands for one or more of the network's.

A pixel of a class that stands for several of the network's classes says only that it is one of these. Its label in
training is then the number of a *union*, beyond the numbers of the classes themselves: see
`segscape.losses.unions.join_unions` for what a loss makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from segscape.labels.spec import IGNORE_INDEX, LabelSpec

Union = tuple[int, ...]
"""Indices of the network's classes, of which a pixel has one."""


@dataclass(frozen=True)
class ClassMapping:
    """What the classes of one data set are among a network's.

    Attributes:
        own: The data set's classes.
        network: The network's classes.
        members: For each of the data set's classes, the network's classes that it stands for, in the order of its
            rule; none for a class that counts as unlabelled.
    """

    own: LabelSpec
    network: LabelSpec
    members: tuple[Union, ...]

    @classmethod
    def same(cls, spec: LabelSpec) -> ClassMapping:
        """The map of a network's own classes."""
        return cls(spec, spec, tuple((index,) for index in range(spec.num_classes)))

    @classmethod
    def of(cls, own: LabelSpec, network: LabelSpec, rules: Mapping[str, Sequence[str]]) -> ClassMapping:
        """The map that rules describe.

        Args:
            own: The data set's classes.
            network: The network's classes.
            rules: By the name of a class of the data set, the names of the network's classes that it stands for; an
                empty list leaves it out. A class without a rule stands for the network's class of the same name.

        Raises:
            ValueError: A rule names a class that there is not, or a class has neither a rule nor a namesake.
        """
        for name in rules:
            _index(own, name)
        members = []
        for name in own.class_names:
            if name not in rules and name not in network.class_names:
                raise ValueError(
                    f"{own.name} has a class {name!r} that {network.name} has not; say under `classes` what it is "
                    "there, such as [road, car], or [] to leave its pixels out."
                )
            found = tuple(_index(network, member) for member in rules.get(name, [name]))
            if len(set(found)) < len(found):
                raise ValueError(f"The rule for {name!r} of {own.name} names a class twice.")
            members.append(found)
        return cls(own, network, tuple(members))

    @property
    def is_same(self) -> bool:
        """Whether the data set's classes are the network's."""
        return self.own == self.network and all(found == (index,) for index, found in enumerate(self.members))

    @cached_property
    def home(self) -> tuple[int, ...]:
        """For each of the network's classes, the data set's class that it counts for where results are measured.

        Where several hold it, it is the one whose rule names it earliest, the first of those that tie; `IGNORE_INDEX`
        where none does.
        """
        places: list[tuple[int, int]] = [(IGNORE_INDEX, IGNORE_INDEX)] * self.network.num_classes
        for index, found in enumerate(self.members):
            for place, member in enumerate(found):
                places[member] = min(places[member], (place, index))
        return tuple(index for _, index in places)

    def table(self, unions: Sequence[Union]) -> npt.NDArray[np.uint8]:
        """The label to train on for each label of the data set.

        Args:
            unions: Those of all data sets, see `unions_of`.

        Returns:
            (256,) uint8: indices of the network's classes, unions beyond them, and the ignore index.
        """
        table = np.full(256, IGNORE_INDEX, np.uint8)
        for index, found in enumerate(self.members):
            if len(found) == 1:
                table[index] = found[0]
            elif found:
                table[index] = self.network.num_classes + unions.index(tuple(sorted(found)))
        return table


def unions_of(maps: Iterable[ClassMapping]) -> tuple[Union, ...]:
    """The unions that the classes of several data sets stand for, each once, sorted.

    Raises:
        ValueError: There are more than fit into 8-bit labels beside the classes.
    """
    maps = list(maps)
    unions = sorted({tuple(sorted(found)) for each in maps for found in each.members if len(found) > 1})
    most = IGNORE_INDEX - maps[0].network.num_classes
    if len(unions) > most:
        raise ValueError(
            f"The data sets' classes stand for {len(unions)} different groups of classes; {most} is the most."
        )
    return tuple(unions)


def _index(spec: LabelSpec, name: str) -> int:
    if name not in spec.class_names:
        raise ValueError(f"{spec.name} has no class {name!r}; it has {', '.join(spec.class_names)}.")
    return spec.class_names.index(name)
