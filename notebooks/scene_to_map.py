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
# # From a scene to a map
#
# A GeoTIFF goes in; a label map in the same place, polygons and a table of areas come out. Then the scene is computed
# once more, part by part, as one that is larger than memory would be, and both results are compared. This takes about
# a minute on two CPU cores and needs nothing but `pip install segscape jupyter`.
#
# **The scene is a drawing.** No image from above ships with Segscape, so fields, trees, roofs, roads and a river are
# drawn here with NumPy and Pillow, at 0.3 m a pixel, and put into the sea off Africa, where they cannot be mistaken for
# a real place. The network was trained on photographs and gets parts of a drawing wrong: it takes parts of the meadows
# for water or bare ground. This notebook shows how the work is done; how well, only real scenes can tell: the scores on
# such are on the page on [weights](../docs/weights.md#scapenet_lite0aerial).

# %%
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from IPython.display import Markdown
from PIL import Image, ImageDraw, ImageFilter

import segscape

side = 2048  # pixels
random = np.random.default_rng(0)
picture = Image.new("RGB", (side, side))
draw = ImageDraw.Draw(picture)
fields = [(96, 112, 70), (92, 108, 60), (84, 104, 60), (158, 140, 112)]  # meadows, and bare soil
for y, x in 256 * np.array([*np.ndindex(8, 8)]):
    field = fields[random.integers(4) if x + y > 1024 else 0]
    draw.rectangle([x, y, x + 255, y + 255], fill=field, outline=(60, 76, 44), width=5)
for x, y in random.normal((500, 1500), (200, 180), (2500, 2)):
    r = random.uniform(8, 20)
    draw.ellipse([x - r, y - r, x + r, y + r], fill=(58, 78, 44), outline=(44, 56, 34), width=3)  # a tree
for x, y in np.mgrid[60:800:170, 60:760:190].reshape(2, -1).T:
    draw.rectangle([x, y, x + 90, y + 80], fill=(205, 199, 193), outline=(90, 90, 90), width=8)  # a roof
for road in ((0, 1000, side, 840), (880, 0, 940, side)):
    draw.line(road, fill=(128, 126, 124), width=28)
for size, amplitude in ((64, 8), (16, 8), (4, 9), (1, 9)):  # unevenness of every size
    noise = random.normal(0, amplitude, (side // size, side // size)).astype(np.float32)
    noise = np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
    picture = Image.fromarray((picture + noise[..., None]).clip(0, 255).astype(np.uint8))
river = (1500, -20, 1640, 700, 1480, 1400, 1600, side + 20)
ImageDraw.Draw(picture).line(river, fill=(38, 62, 66), width=190, joint="curve")
pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8)))
Image.fromarray(pixels).reduce(4)

# %% [markdown]
# ## The file
#
# A GeoTIFF knows its coordinate reference system and where its pixels lie: here UTM zone 31 north, at the equator.

# %%
transform = rasterio.transform.from_origin(500_000, 0, 0.3, 0.3)  # west, north, metres a pixel
profile = {"width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32631", "transform": transform}
with rasterio.open("scene.tif", "w", driver="GTiff", **profile) as file:
    file.write(pixels.transpose(2, 0, 1))

# %% [markdown]
# ## The map
#
# The card of these weights says that they were trained at 0.1 to 1 m a pixel, so the scene is seen as it is; a finer or
# coarser one would be resampled ([working size](../docs/working-size.md)). `SceneFiles` lists what is to be written,
# `SceneSettings` how much memory the process may take.

# %%
segmenter = segscape.Segmenter.from_weights("scapenet_lite0.aerial", device="cpu")


def segment(files: segscape.SceneFiles, memory: int) -> dict[str, float]:
    """Segment the scene, say how, and return the share of each class."""
    with segscape.Scene(segmenter, Path("scene.tif"), files, segscape.SceneSettings(memory)) as scene:
        print(f"{scene.plan.mode} because {scene.plan.reason};\nseen at {scene.sight.reason}")
        return scene.run(on_progress=lambda share: None)


files = segscape.SceneFiles(Path("map/labels.tif"), polygons=Path("map/areas.gpkg"), overlay=Path("map/overlay.png"))
shares = segment(files, memory=4_000_000_000)
Image.open("map/overlay.png").reduce(4)

# %% [markdown]
# The labels are a GeoTIFF in the same place, with the classes' names and colours.

# %%
with rasterio.open("map/labels.tif") as file:
    whole = file.read(1)
    print(file.crs, file.bounds, file.tags(1), sep="\n")

# %% [markdown]
# ## Areas
#
# Each connected area of a class is a polygon with its number of pixels and its area on the ellipsoid. GeoPandas, QGIS
# or any other GIS opens the file; pyogrio and Shapely, which come with Segscape, are enough for a table.

# %%
_, _, outlines, (names, areas) = pyogrio.raw.read("map/areas.gpkg", columns=["class", "area_m2"])
rows = ["| class | polygons | hectares | share |", "|---|---:|---:|---:|"]
for name in segmenter.card.class_names:
    own = names == name
    rows.append(f"| {name} | {own.sum():,} | {areas[own].sum() / 10_000:.2f} | {shares[name]:.1%} |")
Markdown("\n".join(rows))

# %% [markdown]
# The polygons with at least 100 square metres, drawn over the scene in the colours of their classes:

# %%
colours = dict(zip(segmenter.card.class_names, segmenter.card.palette, strict=True))
drawn = Image.fromarray(pixels)
draw = ImageDraw.Draw(drawn)
for name, polygon in zip(names[areas >= 100], shapely.from_wkb(outlines[areas >= 100]), strict=True):
    for part in shapely.get_parts(polygon):
        corners = [~transform * place for place in part.exterior.coords]  # from metres to columns and rows
        draw.line(corners, fill=colours[name], width=6)
drawn.reduce(4)

# %% [markdown]
# ## A scene that is larger than memory
#
# `--dry-run` tells how a scene would be computed, without doing it. With 4 GB this one was computed at once; with
# 1.5 GB it is streamed: some hundred rows at a time go through the network. The plan calls that exact, since the result
# is that of the whole ([images of any size](../docs/large-images.md)). Without `--json` the plan is printed as a table,
# with memory, disk and time.

# %%
arguments = "segment scene.tif --weights scapenet_lite0.aerial --output map --device cpu --max-memory 1.5GB"
command = [sys.executable, "-m", "segscape", *arguments.split(), "--dry-run", "--json"]
plan = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0])
{key: plan[key] for key in ("image", "labels", "size", "seen_at", "mode", "exact", "reason")}

# %%
segment(segscape.SceneFiles(Path("map/streamed.tif")), memory=1_500_000_000)
with rasterio.open("map/streamed.tif") as file:
    streamed = file.read(1)
print(f"{(streamed != whole).sum():,} of {whole.size:,} labels differ")

# %% [markdown]
# Logits that are streamed are those of the whole up to rounding, so where two classes are equally probable a label may
# come out differently. How far they agree was
# [measured for every network](../docs/large-images.md#three-ways-one-result), and `tests/test_streaming.py` holds it.
