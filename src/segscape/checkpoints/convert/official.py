"""The machinery shared by all origins: a strict, named, two-way map between official entries and ours."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from segscape.choices import Which
from segscape.messages import say_once

_log = logging.getLogger(__name__)

_RAW = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "student")
_AVERAGED = (
    *("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "model_state_dict_ema", "ema"),
    *("state_dict_swa", "swa_state_dict", "averaged_model"),
)
_INSIDE = ("shadow", "shadow_params", "module")
"""Under which an averaging helper keeps its weights, beside its settings."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "student.", "ema.", "ema_model.")
"""What wrappers put before every name: parallel, compiled and averaging ones, and training frameworks."""


def unwrap(checkpoint: Mapping[str, object], which: Which = "averaged") -> dict[str, Tensor]:
    """The flat state dict inside a checkpoint, without its wrappers and the prefixes that they add to every name.

    What was chosen and taken off is logged.

    Args:
        checkpoint: A state dict, or a dict that holds one beside other things.
        which: The weights to take where it holds averaged ones beside the raw ones.

    Raises:
        ValueError: No state dict can be found.
    """
    state, seen = checkpoint, 0
    while True:
        raw, averaged = (
            next((key for key in keys if isinstance(state.get(key), Mapping) and state[key]), None)
            for keys in (_RAW, _AVERAGED)
        )
        inside = next((key for key in _INSIDE if seen and isinstance(state.get(key), Mapping)), None)
        key = (averaged or raw if which == "averaged" else raw or averaged) or inside
        if key is None:
            break
        if raw and averaged:
            other = "raw" if which == "averaged" else "averaged"
            say_once(
                _log,
                f"The checkpoint holds raw weights ({raw}) and averaged ones ({averaged}); the {which} ones are taken. "
                f"--which {other} takes the others.",
            )
        state, seen = cast("Mapping[str, object]", state[key]), seen + 1
    # PyTorch's averaging wrapper counts beside its weights.
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor) and key != "n_averaged"}
    if not tensors:
        raise ValueError("The checkpoint holds no tensors; is it a network's state dict?")
    while prefix := next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in tensors)), None):
        say_once(_log, f"Every name of the checkpoint begins with {prefix} (a wrapper's prefix), which is left out.")
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def renamed(name: str, patterns: Iterable[tuple[re.Pattern[str], str]]) -> str:
    """A name after each substitution (pattern, replacement) in turn."""
    for pattern, replacement in patterns:
        name = pattern.sub(replacement, name)
    return name


_NEVER = re.compile(r"(?!)")


def _same(name: str) -> str:
    return name


def _none(name: str) -> tuple[str, ...]:
    return ()


def _no(name: str) -> bool:
    return False


@dataclass(frozen=True)
class OfficialFormat:
    """How one network's authors spell its entries.

    Attributes:
        origin: The name of the code base that writes this format.
        official_name: The official name of one of our entries. It must be one-to-one.
        classifier: The official entry whose first dimension is the number of classes.
        canonical: The one name under which an entry is read that the authors store under several.
        aliases: The further names under which official files hold an entry.
        unused: A pattern for the (canonical) entries that official files hold but their networks never use.
        may_differ: A pattern for entries of training alone that some released files hold in another form; where
            they do not fit, ours stay fresh.
        absolute_scale: Whether one of our normalisation scales is |weight| + 1e-5 of the official one. Such a layer
            does not count its batches.
        wrapper: The key below which official files hold the state dict, or nothing.
        pretrained: The submodules that start from ImageNet weights, each with what its official names begin with; the
            rest of them are the names in the ImageNet checkpoint.
    """

    origin: str
    official_name: Callable[[str], str]
    classifier: str
    canonical: Callable[[str], str] = _same
    aliases: Callable[[str], tuple[str, ...]] = _none
    unused: re.Pattern[str] = _NEVER
    may_differ: re.Pattern[str] = _NEVER
    absolute_scale: Callable[[str], bool] = _no
    wrapper: str | None = None
    pretrained: Mapping[str, str] = field(default_factory=dict)

    def fits(self, official: Mapping[str, Tensor]) -> bool:
        """Whether an official state dict looks like this format."""
        return any(self.canonical(key) == self.classifier for key in official)

    def convert(
        self, create: Callable[[int], nn.Module], official: Mapping[str, Tensor], num_classes: int | None
    ) -> dict[str, Tensor]:
        """Our state dict for the network that `create` makes, from one that `fits`; see `convert_checkpoint`."""
        official = self._without_aliases(official)
        found = official[self.classifier].shape[0]
        if num_classes not in (None, found):
            raise ValueError(f"The checkpoint is for {found} classes, not for {num_classes}.")
        with torch.device("meta"):
            expected = create(found).state_dict()
        names = {ours: self.official_name(ours) for ours in expected}
        differing = self._differing(names, expected, official)
        if differing:
            official = {key: value for key, value in official.items() if not self.may_differ.fullmatch(key)}
        self._check(names, expected, official, allowed=differing)
        fresh = create(found).state_dict() if differing else {}
        converted = {}
        for ours, name in names.items():
            if name in official:
                converted[ours] = self._value(ours, official[name])
            elif name in differing:
                converted[ours] = fresh[ours]
            else:
                # The authors' normalisation layers do not count their batches.
                converted[ours] = torch.zeros((), dtype=torch.int64)
        return converted

    def restore(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The official state dict of ours, without the entries that their networks never use."""
        official = {}
        for ours, value in state.items():
            stem, _, leaf = ours.rpartition(".")
            if leaf == "num_batches_tracked" and self.absolute_scale(f"{stem}.weight"):
                continue
            name = self.official_name(ours)
            restored = value - 1e-5 if self.absolute_scale(ours) else value
            official.update(dict.fromkeys((name, *self.aliases(name)), restored))
        return official

    def _without_aliases(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        canonical = {key: value for key, value in state.items() if self.canonical(key) == key}
        differing = []
        for key, value in state.items():
            kept = canonical.setdefault(self.canonical(key), value)
            if kept is not value and (kept.shape != value.shape or not torch.equal(kept, value)):
                differing.append(key)
        if differing:
            _log.warning(
                "%d entries differ from the entry they repeat, such as %s; the latter is read.",
                len(differing),
                f"{differing[0]} from {self.canonical(differing[0])}",
            )
        return canonical

    def _differing(
        self, names: dict[str, str], expected: Mapping[str, Tensor], official: Mapping[str, Tensor]
    ) -> set[str]:
        """All of our entries that `may_differ`, by official name, where the checkpoint's do not fit; otherwise none."""
        ours = {name: expected[key].shape for key, name in names.items() if self.may_differ.fullmatch(name)}
        theirs = {key: value.shape for key, value in official.items() if self.may_differ.fullmatch(key)}
        if ours == theirs:
            return set()
        _log.warning(
            "%d entries such as %s are not those of the network and are left out; they serve training alone.",
            len(theirs.keys() | ours.keys()),
            min(theirs.keys() | ours.keys()),
        )
        return set(ours)

    def _check(
        self,
        names: dict[str, str],
        expected: Mapping[str, Tensor],
        official: Mapping[str, Tensor],
        *,
        allowed: set[str],
    ) -> None:
        known = set(names.values())
        counters = {name for name in known if name.endswith("num_batches_tracked")}
        problems = {
            "missing": sorted(known - counters - allowed - official.keys()),
            "unexpected": sorted(
                key
                for key in official.keys() - known
                if not self.unused.fullmatch(key) and not key.endswith("num_batches_tracked")
            ),
            "of another shape": sorted(
                f"{name} {tuple(official[name].shape)}, expected {tuple(expected[ours].shape)}"
                for ours, name in names.items()
                if name in official and official[name].shape != expected[ours].shape
            ),
        }
        lines = [f"{len(keys)} {what}: {', '.join(keys)}" for what, keys in problems.items() if keys]
        if lines:
            raise ValueError("The checkpoint does not fit the network; entries " + "; ".join(lines) + ".")

    def _value(self, ours: str, value: Tensor) -> Tensor:
        value = value.detach().clone()
        return value.abs() + 1e-5 if self.absolute_scale(ours) else value
