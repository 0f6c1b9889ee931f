"""Contact sheets: many pictures on one sheet, with a legend of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 12
_TEXT = 15


def contact_sheet(
    rows: Sequence[Sequence[npt.NDArray[np.uint8]]],
    *,
    titles: Sequence[str],
    class_names: Sequence[str] = (),
    palette: Sequence[tuple[int, int, int]] = (),
    cell_width: int = 480,
) -> npt.NDArray[np.uint8]:
    """Arrange pictures on a sheet, with a row for each image and a column for each kind of picture.

    Args:
        rows: Pictures (H, W, 3) uint8; a row's pictures are of one size.
        titles: A title for each column.
        class_names: The legend's names; without any there is no legend.
        palette: The legend's colours.
        cell_width: Width of a column in pixels.

    Returns:
        (H, W, 3) uint8.
    """
    font = ImageFont.load_default(_TEXT)
    heights = [round(row[0].shape[0] * cell_width / row[0].shape[1]) for row in rows]
    width = _MARGIN + len(titles) * (cell_width + _MARGIN)
    legend = _legend_places(class_names, font, width)
    legend_height = legend[-1][1] + 2 * _TEXT + _MARGIN if legend else 0
    height = 2 * _MARGIN + _TEXT + sum(h + _MARGIN for h in heights) + legend_height
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((_MARGIN + column * (cell_width + _MARGIN), _MARGIN // 2), title, fill="black", font=font)
    top = 2 * _MARGIN + _TEXT
    for row, cell_height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            # Not interpolated, since the classes' colours must not mix.
            cell = Image.fromarray(picture).resize((cell_width, cell_height), Image.Resampling.NEAREST)
            sheet.paste(cell, (_MARGIN + column * (cell_width + _MARGIN), top))
        top += cell_height + _MARGIN
    for (x, y), name, colour in zip(legend, class_names, palette, strict=True):
        draw.rectangle((x, top + y, x + _TEXT, top + y + _TEXT), fill=colour, outline="black")
        draw.text((x + _TEXT + 6, top + y - 2), name, fill="black", font=font)
    return np.asarray(sheet)


def _legend_places(
    names: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> list[tuple[int, int]]:
    """Compute the place (x, y) of each entry, wrapped to the width."""
    places = []
    x, y = _MARGIN, 0
    for name in names:
        entry = _TEXT + 6 + round(font.getlength(name)) + 24
        if x + entry > width and x > _MARGIN:
            x, y = _MARGIN, y + 2 * _TEXT
        places.append((x, y))
        x += entry
    return places
