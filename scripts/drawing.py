"""Diagrams as SVG: boxes, arrows and words in a few colours, readable on a light page and on a dark one.

A diagram has a panel of its own behind it. Panel, boxes and words change colour together where the viewer asks for dark
pages, so that they fit each other whatever the page around them does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

Point = tuple[float, float]

COLOURS: dict[str, tuple[str, str]] = {
    "panel": ("#f6f7f9", "#1b1e24"),
    "ink": ("#1c2128", "#e8eaee"),
    "soft": ("#5a6472", "#aab2be"),
    "line": ("#6b7685", "#98a2b0"),
    "plain": ("#ffffff", "#2b3038"),
    "backbone": ("#d5e4f8", "#1f3a5c"),
    "join": ("#e6dcf6", "#43315f"),
    "mean": ("#fbe6c4", "#5a431a"),
    "head": ("#d3eedb", "#1f4a2e"),
    "loud": ("#c4442c", "#ff8a70"),
}
"""Each with its value on a light page and on a dark one."""

_WIDTH_PER_SIZE = 0.56
"""The width of a letter of a common sans-serif font, as a share of its size; bold ones are a tenth wider."""


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate how wide a line of text is."""
    return len(text) * size * _WIDTH_PER_SIZE * (1.1 if bold else 1)


class Drawing:
    """A diagram in the making.

    Args:
        width: Of the panel.
        height: Of the panel.
        title: What it shows, for those who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, *, dashed: bool = False, radius: float = 6
    ) -> None:
        """A rectangle with a line around it."""
        style = f'class="{colour} edge dashed"' if dashed else f'class="{colour} edge"'
        corner = f' rx="{radius:g}"' if radius else ""
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"{corner} {style}/>')

    def area(self, x: float, y: float, width: float, height: float, colour: str, opacity: float = 1) -> None:
        """A rectangle without a line."""
        shine = f' opacity="{opacity:g}"' if opacity < 1 else ""
        self._parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" class="{colour}"{shine}/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        bold: bool = False,
        colour: str = "ink",
        anchor: Literal["start", "middle", "end"] = "middle",
        room: float | None = None,
    ) -> None:
        """A line of text whose base line is at `y`.

        Raises:
            ValueError: It is wider than the room that there is for it.
        """
        if room is not None and text_width(text, size, bold=bold) > room:
            raise ValueError(f"{text!r} does not fit into {room:g} units.")
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" class="{colour}"{weight}>'
            f"{escape(text)}</text>"
        )

    def path(self, points: Sequence[Point], *, dashed: bool = False, arrow: bool = True, colour: str = "line") -> None:
        """Straight lines from point to point, with a head at the last."""
        steps = " ".join(f"{'L' if place else 'M'}{x:g} {y:g}" for place, (x, y) in enumerate(points))
        head = f' marker-end="url(#head-{colour})"' if arrow else ""
        style = f"stroke-{colour} dashed" if dashed else f"stroke-{colour}"
        self._parts.append(f'<path d="{steps}" class="{style}"{head}/>')

    def svg(self) -> str:
        """Return the whole file."""
        heads = "".join(
            f'<marker id="head-{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0.5L8 4L0 7.5z" class="{name}"/></marker>'
            for name in ("line", "loud")
        )
        light, dark = (_rules(place) for place in (0, 1))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" role="img" font-family="sans-serif">\n'
            f"<title>{escape(self.title)}</title>\n"
            f"<style>path{{fill:none}}.dashed{{stroke-dasharray:5 4}}{light}"
            f"@media (prefers-color-scheme:dark){{{dark}}}</style>\n"
            f"<defs>{heads}</defs>\n"
            f'<rect width="{self.width:g}" height="{self.height:g}" rx="10" class="panel"/>\n'
            + "\n".join(self._parts)
            + "\n</svg>\n"
        )


def _rules(place: int) -> str:
    colours: Iterable[tuple[str, str]] = ((name, pair[place]) for name, pair in COLOURS.items())
    rules = [f".{name}{{fill:{value}}}" for name, value in colours]
    rules += [f".edge{{stroke:{COLOURS['line'][place]};stroke-width:1.2}}"]
    rules += [f".stroke-{name}{{stroke:{COLOURS[name][place]};stroke-width:1.5}}" for name in ("line", "loud")]
    return "".join(rules)
