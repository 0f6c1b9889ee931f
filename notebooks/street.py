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
# # A street, segmented
#
# Five frames of a drive become label maps: classes in colour, the share of each class, how sure the network is and
# where it is wrong. At the end stands what the weights say of themselves. This takes less than half a minute on two
# CPU cores and needs nothing but `pip install segscape jupyter`.
#
# The frames ship with Segscape. They are from CamVid (G. Brostow, J. Fauqueur, R. Cipolla, 2009), in the edition of
# SegNet, under [CC BY-NC 4.0](https://creativecommons.org/licenses/by-nc/4.0/): not for commercial use.

# %%
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import segscape

folder = Path(str(files("segscape"))) / "examples" / "camvid"
frames = sorted((folder / "images" / "val").glob("*.jpg"))
Image.open(frames[0])

# %% [markdown]
# ## Labels
#
# The weights know at what size they see best, a shorter side of 512 pixels here. A photograph of any size is brought to
# it, and the labels have the photograph's own size ([working size](../docs/working-size.md)). On the left are the
# labels in the classes' colours, on the right they lie over the frame.

# %%
segmenter = segscape.Segmenter.from_weights("scapenet_lite0.street")
result = segmenter.segment(frames[0])
result.save("labels.png")  # a PNG with a palette: its values are the classes' indices
print(result.labels.shape, result.labels.dtype)
Image.fromarray(np.hstack([Image.open("labels.png").convert("RGB"), result.overlay()]))

# %% [markdown]
# ## Shares
#
# Which part of the pixels each class has, as bars that are also the key to the colours above.

# %%
shares = sorted(result.shares().items(), key=lambda item: -item[1])
colours = dict(zip(result.class_names, result.palette, strict=True))
bars = Image.new("RGB", (640, 24 * len(shares)), "white")
draw = ImageDraw.Draw(bars)
for row, (name, share) in enumerate(shares):
    draw.text((4, 24 * row + 3), f"{name} {share:.1%}", fill="black", font_size=15)
    draw.rectangle((160, 24 * row + 3, 160 + 1000 * share, 24 * row + 20), fill=colours[name])
bars

# %% [markdown]
# ## All frames
#
# The command line does a folder, or a video with `pip install 'segscape[video]'`:
#
# ```bash
# segscape segment frames/ film.mp4 --output labels --overlay
# ```
#
# In Python it is a loop:

# %%
results = [segmenter.segment(frame) for frame in frames]
Image.fromarray(np.hstack([each.overlay() for each in results])).reduce(2)

# %% [markdown]
# ## How sure the network is
#
# `probabilities` gives the softmax of the logits, a map for each class. The largest at each pixel is the confidence,
# white where the network is sure. The frames ship with the labels that people drew, so the wrong pixels can be marked
# beside it, in red; where people drew none (255), nothing counts.

# %%
confidence = segmenter.probabilities(frames[0]).max(axis=0)
truth = np.asarray(Image.open(folder / "labels" / "val" / f"{frames[0].stem}.png"))
wrong = (truth != 255) & (result.labels != truth)
right = (truth != 255) & ~wrong
grey = np.repeat((confidence * 255).astype(np.uint8)[..., None], 3, axis=2)
Image.fromarray(np.hstack([grey, np.where(wrong[..., None], np.uint8([230, 0, 0]), result.image)]))

# %%
print(f"right: {right.sum() / (truth != 255).sum():.1%} of the pixels with a label")
print(f"mean confidence where it is right: {confidence[right].mean():.2f}, wrong: {confidence[wrong].mean():.2f}")

# %% [markdown]
# One frame says little. The scores over all of CamVid's 101 validation images, with the command that measures them,
# are on the page on [weights](../docs/weights.md#scapenet_lite0street).
#
# ## The card
#
# A weights file says what it is: classes, size, training, scores, how they were measured, and on what terms it may be
# used. `segscape models` lists the weights that ship.

# %%
card = segmenter.card
for name in ("network", "class_names", "training_size", "working_size", "training", "score", "protocol", "licence"):
    print(f"{name}: {getattr(card, name)}\n")
