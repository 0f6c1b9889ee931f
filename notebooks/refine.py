# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
# %% [markdown]
# # A coarse mask, refined
#
# A rough mask of an object is made to follow the edges of the photograph, and the object is cut out. This takes less
# than half a minute on two CPU cores and needs nothing but `pip install segscape jupyter`.
#
# The photograph and the mask ship with Segscape. They are from
# [CascadePSP](https://github.com/hkchengrex/CascadePSP), whose repository is under the MIT licence; nothing is stated
# for the photograph alone. Both are halved here and cut to the aeroplane, to save time.

# %%
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

import segscape

folder = Path(str(files("segscape"))) / "examples" / "refine"
window = (440, 400, 1380, 800)  # left, top, right, bottom
photo, mask = (Image.open(folder / name).reduce(2).crop(window) for name in ("aeroplane.jpg", "aeroplane.png"))
image, coarse = np.asarray(photo), np.asarray(mask) > 127


def marked(inside: np.ndarray) -> np.ndarray:
    """Return the photograph with everything outside the mask in red."""
    return np.where(inside[..., None], image, image // 2 + np.uint8([110, 0, 0]))


Image.fromarray(marked(coarse))

# %% [markdown]
# ## Refine
#
# The refiner is CRM with the weights that ship ([weights](../docs/weights.md#crm_efficientnet_lite0objects)). It looks
# at the photograph in stages, from coarse to fine. This mask is roughly right, so that only a band of 16 pixels to
# either side of its edge is refined; without `band` every pixel is. The result holds a probability at every pixel; the
# mask is where that is more than one half.

# %%
refiner = segscape.Refiner.from_weights("crm_efficientnet_lite0.objects")
result = refiner.refine(photo, mask, band=16)
result.save("refined.png")  # grey, 0 to 255
print(result.probability.shape, result.probability.dtype)
print(f"{(result.mask != coarse).mean():.1%} of the pixels have changed sides")
Image.fromarray(marked(result.mask))

# %% [markdown]
# ## Where it changed most
#
# On the left the coarse mask, on the right the refined one, enlarged twice. The wheels and legs have got their own
# outlines; where the underside lies in the shade, a little of it is lost.


# %%
def enlarged(picture: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Return a part of a picture, twice as large."""
    return picture[rows, columns].repeat(2, axis=0).repeat(2, axis=1)


changed = result.mask != coarse
side = 160
places = [(y, x) for y in range(0, image.shape[0] - side, 20) for x in range(0, image.shape[1] - side, 20)]
places.sort(key=lambda place: -changed[place[0] : place[0] + side, place[1] : place[1] + side].sum())
pairs = []
for y, x in places:
    if len(pairs) < 2 and not any(abs(y - row) < side and abs(x - column) < side for row, column, _ in pairs):
        part = slice(y, y + side), slice(x, x + side)
        pairs.append((y, x, np.hstack([enlarged(marked(each), *part) for each in (coarse, result.mask)])))
Image.fromarray(np.vstack([pair for _, _, pair in pairs]))

# %% [markdown]
# ## The cut-out
#
# At an edge a pixel shows both object and background. `CutOut` takes the background's share out of the colours there,
# so that the object can be put on another background without a halo ([cut-outs](../docs/cutout.md)).

# %%
cut_out = segscape.CutOut(image, result.probability, seconds={})
cut_out.save("aeroplane.png")  # on transparency
Image.fromarray(cut_out.on("#f2d8a7"))

# %% [markdown]
# ## The same on the command line
#
# ```bash
# segscape refine photo.jpg mask.png --band 16 --alpha
# ```
#
# Without a mask, `segscape cutout photo.jpg --output cut` finds the main object by itself; `refine` also takes folders,
# GeoTIFF and maps of many classes (`segscape refine --help`).
