"""The kinds of files that are damaged, each with well-formed ones to begin with and the command that reads it."""

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import av
import numpy as np
import rasterio
import torch
from PIL import Image
from rasterio import Affine
from rasterio.control import GroundControlPoint

import segscape
from segscape.checkpoints.convert import to_official
from segscape.checkpoints.shipped import find_weights, read_card
from segscape.checkpoints.store import read_weights
from segscape.cli.main import main
from segscape.export.write import export_network
from segscape.scenes.journal import Journal
from segscape.scenes.task import Sums, Task
from tests.fake.folder import write_folder
from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation

WEIGHTS = "scapenet_lite0.street"
Place = Callable[[Path, Path], Sequence[object]]
"""Takes a damaged file and the folder to write to, and returns the words of the command."""


@dataclass(frozen=True)
class Kind:
    """Files of one format, in one role.

    Attributes:
        count: How many of 10,000 damaged files are of this kind.
        originals: Well-formed files.
        mutation: Damages the bytes of one.
        words: The command that reads it.
        expected: The bytes of a result that the command must write if it succeeds, by its name.
    """

    count: int
    originals: tuple[Path, ...]
    mutation: Mutation
    words: Place
    expected: dict[str, bytes] = field(default_factory=dict)


def kinds(folder: Path) -> dict[str, Kind]:
    """Write the well-formed files into a folder, and return all kinds by their names."""
    pixels = frame()
    photo = folder / "photo.png"
    Image.fromarray(pixels).save(photo)
    segment: Place = lambda path, output: ("segment", path, "--output", output)  # noqa: E731
    found = {
        "geotiff": Kind(1250, tuple(_rasters(folder / "rasters", pixels)), mutations.any_bytes, segment),
        "vrt": Kind(700, (_virtual(folder / "virtual", pixels),), mutations.text, segment),
        "jp2": Kind(200, (_raster(folder / "j/a.jp2", pixels, driver="JP2OpenJPEG"),), mutations.any_bytes, segment),
    }
    for suffix, count, mutation in (
        *(("png", 900, mutations.png), ("jpg", 700, mutations.any_bytes), ("webp", 250, mutations.any_bytes)),
        *(("bmp", 150, mutations.any_bytes), ("gif", 150, mutations.any_bytes), ("ppm", 100, mutations.any_bytes)),
        ("avif", 100, mutations.any_bytes),
    ):
        found[suffix] = Kind(count, tuple(_photos(folder / suffix, suffix, pixels)), mutation, segment)
    refine: Place = lambda path, output: ("refine", photo, path, "--output", output / f"mask{path.suffix}")  # noqa: E731
    masks = tuple(_masks(folder / "masks"))
    found["mask.png"] = Kind(400, masks[:3], mutations.png, refine)
    found["mask.tif"] = Kind(500, masks[3:], mutations.any_bytes, refine)
    found["place"] = Kind(200, tuple(_places(folder / "places", pixels)), mutations.text, _with_photo)
    found["weights"] = Kind(
        900,
        (find_weights("scapenet_lite0.salient"),),
        mutations.safetensors,
        lambda path, output: ("segment", photo, "--weights", path, "--output", output),
    )
    found["checkpoint"] = Kind(
        500,
        (_checkpoint(folder / "checkpoint"),),
        mutations.zipped,
        lambda path, output: ("convert", "dabnet_resnet18_p1", path, output / "a.safetensors"),
    )
    found["journal"] = _journals(folder / "journal", pixels)
    root = folder / "own"
    write_folder(root)
    fit = (
        *("--data.root", root, "--trainer.accelerator", "cpu", "--data.num_workers", 0, "--trainer.max_steps", 0),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *("--model.pretrained", "null", "--trainer.devices", 1, "--trainer.num_nodes", 1),
    )
    found["config"] = Kind(
        350,
        tuple(_configs(folder / "configs")),
        mutations.text,
        lambda path, output: ("fit", *fit, "--config", path, "--trainer.default_root_dir", output / "run"),
    )
    found["labels"] = Kind(700, (root / "labels.yaml",), mutations.text, partial(_in_place_of, root, "labels.yaml"))
    annotations = _annotations(folder / "annotations", root)
    found["annotations"] = Kind(
        150, (annotations,), mutations.json_values, partial(_in_place_of, root, "masks/train/a.json")
    )
    exported = {suffix: _export(folder / f"exported/a.{suffix}") for suffix in ("onnx", "xml", "pt2")}
    for suffix, count, mutation in (("onnx", 350, mutations.any_bytes), ("xml", 250, mutations.text)):
        found[suffix] = Kind(count, (exported[suffix],), mutation, partial(_with_weights, exported[suffix], photo))
    found["pt2"] = Kind(150, (exported["pt2"],), mutations.any_bytes, partial(_with_weights, exported["pt2"], photo))
    found["video"] = Kind(250, tuple(_videos(folder / "videos", pixels)), mutations.any_bytes, segment)
    return found


def frame(size: tuple[int, int] = (72, 96)) -> np.ndarray:
    """A small street frame, (H, W, 3) uint8."""
    path = sorted((Path(segscape.__file__).parent / "examples/camvid/images/val").iterdir())[0]
    return np.asarray(Image.open(path).convert("RGB").resize(size[::-1]))


def _raster(path: Path, values: np.ndarray, **profile: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values[..., None] if values.ndim == 2 else values
    height, width, count = values.shape
    place = {"crs": "EPSG:32632", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 6.65e6)}
    given = {"driver": "GTiff", "dtype": values.dtype, **({} if "gcps" in profile else place), **profile}
    with rasterio.open(path, "w", height=height, width=width, count=count, **given) as dataset:
        dataset.write(np.moveaxis(values, -1, 0))
    return path


def _rasters(folder: Path, pixels: np.ndarray) -> list[Path]:
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    points = [GroundControlPoint(r, c, 5e5 + c, 6e6 - r) for r, c in ((0, 0), (0, 96), (72, 0), (72, 96))]
    deep = pixels.astype(np.uint16) * 12 + 200
    return [
        _raster(folder / "strips.tif", pixels),
        _raster(folder / "tiles.tif", pixels, compress="deflate", predictor=2, nodata=0, **tiles),
        _raster(folder / "jpeg.tif", pixels, compress="jpeg", photometric="YCBCR", **tiles),
        _raster(folder / "deep.tif", deep, compress="lzw"),
        _raster(folder / "float.tif", pixels.astype(np.float32) / 255, compress="zstd", nodata=float("nan")),
        _raster(folder / "points.tif", pixels, gcps=points, crs="EPSG:32632"),
        _raster(folder / "grey.tif", pixels[..., 0], bigtiff="YES"),
        _raster(folder / "four.tif", np.concatenate([pixels, pixels[..., :1]], -1), interleave="band"),
    ]


def _virtual(folder: Path, pixels: np.ndarray) -> Path:
    source = _raster(folder / "source.tif", pixels)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp><NoDataValue>0</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>{band}</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="96" ySize="72"/><DstRect xOff="0" yOff="0" xSize="96" ySize="72"/>'
        "</SimpleSource></VRTRasterBand>\n"
        for band, colour in ((1, "Red"), (2, "Green"), (3, "Blue"))
    )
    place = "<SRS>EPSG:32632</SRS>\n<GeoTransform>500000, 0.5, 0, 6650000, 0, -0.5</GeoTransform>\n"
    path = folder / "scene.vrt"
    path.write_text(f'<VRTDataset rasterXSize="96" rasterYSize="72">\n{place}{bands}</VRTDataset>\n')
    return path


def _photos(folder: Path, suffix: str, pixels: np.ndarray) -> list[Path]:
    folder.mkdir()
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    variants: dict[str, list[tuple[Image.Image, dict[str, object]]]] = {
        "png": [
            (image, {}),
            (image.convert("P"), {}),
            (image.convert("RGBA"), {"exif": exif}),
            (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), {}),
            (image.convert("1"), {}),
        ],
        "jpg": [(image, {"exif": exif}), (image, {"progressive": True}), (image.convert("CMYK"), {})],
        "webp": [(image, {}), (image.convert("RGBA"), {"lossless": True, "exif": exif})],
    }
    paths = []
    for number, (variant, options) in enumerate(variants.get(suffix, [(image, {})])):
        paths.append(folder / f"{number}.{suffix}")
        variant.save(paths[-1], **options)
    return paths


def _masks(folder: Path) -> list[Path]:
    folder.mkdir()
    mask = np.zeros((72, 96), np.uint8)
    mask[20:50, 30:70] = 255
    Image.fromarray(mask).save(folder / "grey.png")
    palette = Image.fromarray(mask // 255)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(folder / "classes.png")
    Image.fromarray(mask > 0).save(folder / "bits.png")
    deep = _raster(folder / "deep.tif", mask.astype(np.uint16) * 257, compress="deflate")
    classes = _raster(folder / "classes.tif", mask // 255, nodata=255)
    with rasterio.open(classes, "r+") as dataset:
        dataset.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
        dataset.update_tags(1, class_0="ground", class_1="car")
    return [*(folder / name for name in ("grey.png", "classes.png", "bits.png")), deep, classes]


def _places(folder: Path, pixels: np.ndarray) -> list[Path]:
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "photo.png")
    (folder / "photo.pgw").write_text("0.5\n0.0\n0.0\n-0.5\n500000.25\n6649999.75\n")
    srs = rasterio.crs.CRS.from_epsg(32632).to_wkt()
    (folder / "photo.prj").write_text(srs)
    place = "<GeoTransform>5e5, 0.5, 0, 6.65e6, 0, -0.5</GeoTransform>"
    xml = f"<PAMDataset><SRS>{escape(srs)}</SRS>{place}</PAMDataset>"
    (folder / "photo.png.aux.xml").write_text(xml)
    return [folder / name for name in ("photo.pgw", "photo.prj", "photo.png.aux.xml")]


def _with_photo(path: Path, output: Path) -> Sequence[object]:
    """Lay a damaged file about a photograph's place beside it."""
    photo = path.with_name("photo.png")
    Image.fromarray(frame()).save(photo)
    if path.suffix == ".prj":
        photo.with_suffix(".pgw").write_text("0.5\n0.0\n0.0\n-0.5\n500000.25\n6649999.75\n")
    return ("segment", photo, "--polygons", "gpkg", "--output", output)


def _checkpoint(folder: Path) -> Path:
    folder.mkdir()
    state = segscape.create_model("dabnet_resnet18_p1", 2).state_dict()
    path = folder / "official.pth"
    torch.save({"epoch": 3, "lr": 0.1, "state_dict": to_official("dabnet_resnet18_p1", state)}, path)
    return path


def _journals(folder: Path, pixels: np.ndarray) -> Kind:
    """A scene in two views that was stopped in the second."""
    scene = _raster(folder / "scene.tif", pixels)
    words = ("segment", scene, "--scales", "1,1.5", "--max-memory", "4GB")
    whole, stopped = folder / "whole", folder / "stopped"
    add = Journal.add

    def add_and_stop(journal: Journal, task: Task, sums: Sums) -> None:
        add(journal, task, sums)
        if len(journal.done) == 2:
            os._exit(0)

    def begin(output: Path, function: Callable[..., None]) -> int:
        Journal.add = function
        return main([str(word) for word in (*words, "--output", output)])

    apart(partial(begin, whole, add))
    apart(partial(begin, stopped, add_and_stop))
    (path,) = stopped.rglob("*.jsonl")

    def goes_on(damaged: Path, output: Path) -> Sequence[object]:
        shutil.copytree(stopped, output)
        (output / path.relative_to(stopped)).write_bytes(damaged.read_bytes())
        return (*words, "--output", output)

    expected = {"scene.tif": (whole / "scene.tif").read_bytes()}
    return Kind(800, (path,), mutations.journal, goes_on, expected)


def _configs(folder: Path) -> list[Path]:
    folder.mkdir()
    own = Path(segscape.__file__).parent / "configs"
    fine = folder / "fine.yaml"
    fine.write_text((own / "finetune.yaml").read_text().replace("base/", f"{own}/base/") + "\n")
    full = folder / "full.yaml"
    full.write_text(
        "trainer: {max_epochs: 2, precision: 32, log_every_n_steps: 5}\n"
        "model:\n  name: scapenet_lite0\n  working_size: 512\n"
        "  losses:\n    - {output: logits, weight: 1.0, loss: {class_path: segscape.losses.CrossEntropy}}\n"
        "data:\n  dataset: folder\n  batch_size: 2\n  eval_batch_size: 1\n"
        "  augmentation: {class_path: segscape.data.transforms.CameraAugmentation, init_args: {crop: [64, 64]}}\n"
    )
    return [full, fine]


def _in_place_of(root: Path, name: str, path: Path, output: Path) -> Sequence[object]:
    """Check a copy of a training folder in which one file is damaged, or added."""
    output.mkdir(parents=True)
    copy = path.with_name("data")
    shutil.copytree(root, copy)
    shutil.copy(path, copy / name)
    return ("data", "check", copy)


def _annotations(folder: Path, root: Path) -> Path:
    folder.mkdir()
    path = folder / "coco.json"
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 72}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    path.write_text(json.dumps(document))
    return path


def _export(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    weights = find_weights("scapenet_lite0.salient")
    network = segscape.create_model(read_card(weights).network, weights=weights)
    apart(lambda: not export_network(network, read_weights(weights)[0], path, size=(64, 96)).passed)
    return path


def apart(function: Callable[[], int]) -> None:
    """Do something that must return 0 in a forked process.

    The commands are forked from this one as well, and would wait for ever for threads that libraries keep in it: GDAL
    those that write rasters, OpenVINO those that run networks.
    """
    pid = os.fork()
    if not pid:
        try:
            os._exit(function())
        except BaseException:
            os._exit(70)
    assert os.waitpid(pid, 0)[1] == 0


def _with_weights(original: Path, photo: Path, path: Path, output: Path) -> Sequence[object]:
    """Segment with a damaged graph; OpenVINO's weights lie beside it."""
    if original.suffix == ".xml":
        os.link(original.with_suffix(".bin"), path.with_suffix(".bin"))
    return ("segment", photo, "--weights", path, "--output", output)


def _videos(folder: Path, pixels: np.ndarray) -> list[Path]:
    folder.mkdir()
    paths = []
    for name, codec, sound in (("a.mp4", "libx264", "aac"), ("a.mkv", "libx264", "aac"), ("a.avi", "mpeg4", None)):
        path = folder / name
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
            track = out.add_stream(sound, rate=8000, layout="mono") if sound else None
            for number in range(4):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(pixels, number, 1).copy(), format="rgb24")))
            out.mux(stream.encode(None))
            if track is not None:
                part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
                part.sample_rate, part.pts, part.time_base = 8000, 0, Fraction(1, 8000)
                out.mux(track.encode(part))
                out.mux(track.encode(None))
        paths.append(path)
    return paths


def is_whole(path: Path) -> bool:
    """Whether a result can be read to its end."""
    try:
        if path.suffix == ".tif":
            with rasterio.open(path) as dataset:
                dataset.read()
        elif path.suffix in (".png", ".jpg"):
            Image.open(io.BytesIO(path.read_bytes())).load()
        elif path.suffix == ".safetensors":
            read_weights(path)
        elif path.suffix == ".mp4":
            with av.open(str(path)) as container:
                return sum(1 for _ in container.decode(video=0)) > 0
        elif path.suffix == ".json":
            json.loads(path.read_text())
    except Exception:
        return False
    return True
