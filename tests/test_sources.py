"""Windows of images: against rasterio, Pillow and slices of whole arrays, from whole and from broken files."""

import os
import pickle
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

from segscape.geometry.window import Window, windows
from segscape.rasters import decoded
from segscape.rasters.channels import Scaling
from segscape.rasters.decoded import claimed_size
from segscape.rasters.image import read_image, read_labels
from segscape.rasters.masks import read_mask, read_mask_file
from segscape.rasters.source import open_source

ROTATED = Affine.translation(733601, 3725139) @ Affine.rotation(33) @ Affine.scale(0.5, -0.4)
UTM = {"crs": "EPSG:32616", "transform": ROTATED}
RNG = np.random.default_rng(0)
INRIA = Path(__file__).parent / "data" / "inria" / "kitsap11.png"


def pixels(height: int = 40, width: int = 50, count: int = 3, dtype: str = "uint8") -> np.ndarray:
    if dtype.startswith("float"):
        return RNG.random((height, width, count)).astype(dtype)
    return RNG.integers(0, np.iinfo(dtype).max, (height, width, count), dtype, endpoint=True)


def write(path: Path, values: np.ndarray, **profile) -> Path:
    colours = profile.pop("colorinterp", None)
    profile = {"driver": "GTiff", "dtype": values.dtype, **UTM, **profile}
    height, width, count = values.shape
    with rasterio.open(path, "w", height=height, width=width, count=count, **profile) as dataset:
        if colours:
            dataset.colorinterp = colours
        dataset.write(np.moveaxis(values, -1, 0))
    return path


def whole(path: Path, **options) -> np.ndarray:
    with open_source(path, **options) as source:
        return source.read(Window(0, 0, *source.size))


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate", "interleave": "pixel"},
        {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"},
        {"driver": "PNG", "transform": None, "crs": None},
        {"driver": "BMP", "transform": None, "crs": None},
    ],
    ids=lambda layout: layout.get("driver", "tiles" if layout else "strips"),
)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_windows_are_slices(tmp_path_factory, layout: dict, data) -> None:
    folder = tmp_path_factory.getbasetemp() / "slices"
    folder.mkdir(exist_ok=True)
    values = np.random.default_rng(5).integers(0, 256, (70, 90, 3), np.uint8)
    suffix = {"JP2OpenJPEG": ".jp2", "PNG": ".png", "BMP": ".bmp"}.get(layout.get("driver", ""), ".tif")
    path = folder / f"{len(layout)}{suffix}"
    if not path.exists():
        write(path, values, **layout)
    row, col = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 89))
    window = Window(row, col, data.draw(st.integers(1, 70 - row)), data.draw(st.integers(1, 90 - col)))
    with open_source(path) as source:
        assert source.size == (70, 90)
        read = source.read(window)
        assert source.valid(window) is None
    assert read.dtype == np.uint8
    assert np.array_equal(read, values[window.slices])


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_windows_cover_once(size: tuple[int, int], step: tuple[int, int]) -> None:
    cover = np.zeros(size, int)
    for window in windows(size, step):
        window.check_inside(size)
        cover[window.slices] += 1
        assert window.intersection(Window(0, 0, *size)) == window
    assert (cover == 1).all()


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (0, 46, 5, 5), (36, 0, 5, 5), (0, 0, 0, 5), (60, 60, 5, 5)])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_window_lies_inside(tmp_path: Path, suffix: str, window: tuple) -> None:
    place = {} if suffix == ".tif" else {"driver": "PNG", "crs": None, "transform": None}
    with open_source(write(tmp_path / f"a{suffix}", pixels(), **place)) as source:
        for read in (source.read, source.valid):
            with pytest.raises(ValueError, match=r"reaches beyond the raster's 40 rows and 50 columns"):
                read(Window(*window))


def test_bands(tmp_path: Path) -> None:
    values = pixels(count=5)
    path = write(tmp_path / "a.tif", values)
    assert np.array_equal(whole(path), values[..., :3])
    assert np.array_equal(whole(path, bands=(5, 1, 5)), values[..., [4, 0, 4]])
    assert np.array_equal(whole(path, bands=[4]), np.repeat(values[..., 3:4], 3, axis=2))
    grey = write(tmp_path / "grey.tif", values[..., :1])
    assert np.array_equal(whole(grey), np.repeat(values[..., :1], 3, axis=2))
    png = tmp_path / "a.png"
    Image.fromarray(values[..., :3]).save(png)
    assert np.array_equal(whole(png, bands=(3, 2, 1)), values[..., [2, 1, 0]])
    for file, bands, message in (
        (path, (1, 2, 7), r"a.tif has no band 7; its bands are numbered from 1 to 5"),
        (png, (0,), r"a.png has no band 0"),
        (path, (1, 2), r"One band or three can be read, not 2"),
        (write(tmp_path / "two.tif", values[..., :2]), None, r"two.tif has 2 bands .* say which .* bands=\(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(file, bands=bands)


def test_sixteen_bits(tmp_path: Path) -> None:
    values = pixels(dtype="uint16")
    path = write(tmp_path / "a.tif", values)
    assert np.array_equal(whole(path), np.rint(values / 257))
    assert np.array_equal(
        whole(path, scaling=Scaling(100, 3000)), np.rint(np.clip((values - 100.0) / 2900, 0, 1) * 255)
    )
    Image.fromarray(values[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(whole(tmp_path / "a.png")[..., 2], np.rint(values[..., 0] / 257))
    with pytest.raises(ValueError, match="from a lower to a higher value, not from 5 to 5"):
        Scaling(5, 5)


@pytest.mark.parametrize(
    ("values", "low", "high", "words"),
    [
        ((200 + RNG.random((90, 80, 3)) * 2800).astype(np.uint16), None, None, "of its uint16 values"),
        (pixels(90, 80, dtype="uint16"), 0, 65535, "of uint16 values that fill the range, 0 and 65535"),
        ((RNG.random((90, 80, 3)) * 900 - 300).astype(np.int16), None, None, "of its int16 values"),
        (RNG.random((90, 80, 3)).astype(np.float32), 0, 1, "of float32 values that fill the range, 0 and 1"),
        (RNG.random((90, 80, 3)) * 0.3, None, None, "of its float64 values"),
        (pixels(90, 80).astype(np.float32), 0, 255, "of float32 values that fill the range, 0 and 255"),
        (np.full((90, 80, 1), 7, np.uint32), 7, 8, "of its uint32 values 7 and 8"),
    ],
)
def test_a_range_that_is_not_stated_is_taken_from_the_values_and_said(
    tmp_path: Path, caplog, values: np.ndarray, low: float | None, high: float | None, words: str
) -> None:
    if low is None:
        low, high = np.percentile(values, [0.1, 99.9])
    path = write(tmp_path / f"{RNG.integers(10**9)}.tif", values)
    with caplog.at_level("INFO", logger="segscape"):
        assert np.array_equal(whole(path), whole(path, scaling=Scaling(float(low), float(high))))
        whole(path)
    (message,) = (text for text in caplog.messages if "black and white" in text)
    assert message.startswith(f"{path.name}: {words}")
    assert "--scaling LOW,HIGH states others" in message


def test_the_range_is_of_pixels_that_hold_data(tmp_path: Path) -> None:
    """And the same for all windows of a scene, though only some are read to find it."""
    values = (200 + RNG.random((1500, 1100, 3)) * 2800).astype(np.uint16)
    values[:700] = 0
    path = write(tmp_path / "a.tif", values, nodata=0, tiled=True, blockxsize=128, blockysize=128)
    with open_source(path) as source:
        assert source.channels.scaling is not None
        assert source.channels.scaling.low == pytest.approx(200, abs=20)
        assert source.channels.scaling.high == pytest.approx(3000, abs=20)
        part = source.read(Window(900, 500, 80, 90))
    assert np.array_equal(part, whole(path)[900:980, 500:590])


def test_an_empty_scene_has_a_range(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((30, 40, 3), np.uint16), nodata=0)
    assert not whole(path).any()


@pytest.mark.parametrize("order", [(3, 2, 1), (2, 4, 1), (1, 2, 3)])
def test_colours_are_those_that_the_file_names(tmp_path: Path, caplog, order: tuple[int, int, int]) -> None:
    values = pixels(count=4)
    tags = [ColorInterp.undefined] * 4
    for number, colour in zip(order, (ColorInterp.red, ColorInterp.green, ColorInterp.blue), strict=True):
        tags[number - 1] = colour
    path = write(tmp_path / f"{order}.tif", values, colorinterp=tags)
    with caplog.at_level("INFO", logger="segscape"):
        assert np.array_equal(whole(path), values[..., [number - 1 for number in order]])
    said = f"bands {', '.join(map(str, order))} are read as red, green and blue, as the file says"
    assert [said in message for message in caplog.messages] == [True] * (order != (1, 2, 3))


def test_bands_that_are_guessed_are_said(tmp_path: Path, caplog) -> None:
    path = write(tmp_path / "five.tif", pixels(count=5), photometric="minisblack")
    with caplog.at_level("INFO", logger="segscape"):
        whole(path)
    assert caplog.messages == [
        "five.tif: the first three of 5 bands are read as red, green and blue; --bands R,G,B names others."
    ]


def test_colours_of_another_model_are_refused(tmp_path: Path) -> None:
    inks = [ColorInterp.cyan, ColorInterp.magenta, ColorInterp.yellow, ColorInterp.black]
    write(tmp_path / "a.tif", pixels(count=4), photometric="minisblack")
    vrt = tmp_path / "inks.vrt"
    rasterio.shutil.copy(tmp_path / "a.tif", vrt, driver="VRT")
    with rasterio.open(vrt, "r+") as dataset:
        dataset.colorinterp = inks
    with pytest.raises(ValueError, match=r"inks.vrt holds CMYK colours.*convert it to RGB first"):
        open_source(vrt)
    assert whole(vrt, bands=(1,)).shape == (40, 50, 3)
    lab = write(tmp_path / "lab.tif", pixels(), photometric="cielab")
    with pytest.raises(ValueError, match=r"lab.tif holds CIELAB colours"):
        open_source(lab)


def test_sixteen_bits_of_a_png_are_those_of_a_geotiff(tmp_path: Path) -> None:
    for count in (1, 3, 4):
        values = pixels(count=count, dtype="uint16") // 20
        tiff = write(tmp_path / f"{count}.tif", values[..., :3])
        png = tmp_path / f"{count}.png"
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[count]
        cv2.imwrite(str(png), values[..., order])
        for scaling in (None, Scaling(0, 3000)):
            assert np.array_equal(whole(png, scaling=scaling), whole(tiff, scaling=scaling))


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jp2", "a.bin"])
def test_a_list_of_other_files_is_opened_by_its_own_name_alone(tmp_path: Path, name: str) -> None:
    secret = write(tmp_path / "secret.tif", pixels())
    rasterio.shutil.copy(secret, tmp_path / "list.vrt", driver="VRT")
    (tmp_path / "list.vrt").rename(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} (is no \w+ file|is not an image|is in no format)"):
        open_source(tmp_path / name)


def test_nan_and_nodata(tmp_path: Path) -> None:
    values = pixels(dtype="float32")
    values[3, 4, 1] = np.nan
    values[5, 6] = -9999
    values[7, 8, 0] = -9999
    path = write(tmp_path / "a.tif", values, nodata=-9999)
    with open_source(path, scaling=Scaling(0, 1)) as source:
        valid = source.valid(Window(0, 0, 40, 50))
        read = source.read(Window(0, 0, 40, 50))
    assert valid is not None
    assert np.argwhere(~valid).tolist() == [[3, 4], [5, 6]]
    assert read[3, 4, 1] == 0


def test_marks_of_missing_data(tmp_path: Path) -> None:
    values = pixels()
    values[values == 0] = 1
    mask = RNG.random((40, 50)) < 0.5
    part = Window(7, 9, 20, 30)
    alpha = np.where(mask, RNG.integers(1, 256, mask.shape), 0).astype(np.uint8)
    rgba = np.concatenate([values, alpha[..., None]], axis=2)
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    files = [
        write(tmp_path / "nodata.tif", np.where(mask[..., None], values, 0), nodata=0),
        write(tmp_path / "alpha.tif", rgba, colorinterp=kinds),
        write(tmp_path / "grey_alpha.tif", rgba[..., 2:], colorinterp=(ColorInterp.gray, ColorInterp.alpha)),
    ]
    for name, environment in (("inside.tif", "YES"), ("beside.tif", "NO")):
        files.append(write(tmp_path / name, values))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=environment), rasterio.open(files[-1], "r+") as dataset:
            dataset.write_mask(mask)
    for suffix in (".png", ".webp"):
        files.append(tmp_path / f"alpha{suffix}")
        Image.fromarray(rgba).save(files[-1], lossless=True)
    assert (tmp_path / "beside.tif.msk").exists()
    for file in files:
        with open_source(file) as source:
            valid = source.valid(part)
            assert valid is not None, file
            assert valid.dtype == np.bool_
            assert np.array_equal(valid, mask[part.slices]), file


def test_a_colour_table_gives_its_colours(tmp_path: Path) -> None:
    values = RNG.integers(0, 4, (40, 50, 1), np.uint8)
    table = np.array([[9, 8, 7], [230, 25, 75], [60, 180, 75], [0, 0, 0]], np.uint8)
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 50, 40, 1, dtype="uint8", **UTM) as dataset:
        dataset.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(table)})
        dataset.write(values[..., 0], 1)
    palette = Image.fromarray(values[..., 0], mode="P")
    palette.putpalette(table.ravel().tolist())
    palette.save(tmp_path / "a.png")
    for name in ("a.tif", "a.png"):
        assert np.array_equal(whole(tmp_path / name), table[values[..., 0]])
    assert np.array_equal(whole(tmp_path / "a.tif", bands=(1,))[..., 0], values[..., 0])


def test_the_place_is_kept(tmp_path: Path) -> None:
    with open_source(write(tmp_path / "a.tif", pixels(), nodata=3)) as source:
        place = source.georeference
    assert place is not None
    assert (place.crs, place.transform, place.nodata, place.gcps) == (UTM["crs"], ROTATED, 3, ())
    points = [GroundControlPoint(row, col, 10 + col / 9, 20 - row / 9) for row, col in ((0, 0), (0, 50), (40, 0))]
    with open_source(write(tmp_path / "b.tif", pixels(), gcps=points, crs="EPSG:4326", transform=None)) as source:
        place = source.georeference
    assert place is not None
    assert place.crs == "EPSG:4326"
    assert [(point.row, point.col, point.x, point.y) for point in place.gcps] == [
        (point.row, point.col, point.x, point.y) for point in points
    ]
    coefficients = [1.0, *[0.0] * 19]
    rpc = RPC(0, 1, 0, 1, coefficients, coefficients, 0, 1, 0, 1, coefficients, coefficients, 0, 1)
    with open_source(write(tmp_path / "c.tif", pixels(), rpcs=rpc, crs=None, transform=None)) as source:
        assert source.georeference is not None
        assert source.georeference.rpcs.line_num_coeff == coefficients


def test_inks_become_colours(tmp_path: Path) -> None:
    inks = np.array([[[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    path = write(tmp_path / "a.tif", inks, photometric="cmyk")
    assert np.array_equal(whole(path), np.asarray(Image.open(path).convert("RGB")))


def test_vrt(tmp_path: Path) -> None:
    values = pixels(count=4)
    write(tmp_path / "a.tif", values)
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.vrt", driver="VRT")
    assert np.array_equal(whole(tmp_path / "a.vrt", bands=(4, 3, 2)), values[..., [3, 2, 1]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels(24, 40)).save(tmp_path / "a.jpg", exif=exif)
    expected = read_image(tmp_path / "a.jpg")
    with open_source(tmp_path / "a.jpg") as source:
        assert source.size == expected.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))
        assert np.array_equal(source.read(Window(2, 3, 5, 6)), expected[2:7, 3:9])
        assert source.georeference is None


def test_large_photographs_are_read_by_windows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(decoded, "_DECODED_PIXELS", 100)
    Image.fromarray(pixels(24, 40)).save(tmp_path / "a.jpg", subsampling=0)
    expected = read_image(tmp_path / "a.jpg").astype(int)
    assert np.abs(whole(tmp_path / "a.jpg") - expected).max() <= 1
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(24, 40)).save(tmp_path / "turned.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"turned.jpg is turned by a camera's orientation tag"):
        open_source(tmp_path / "turned.jpg")


def test_without_rasterio(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "a.tif", pixels())
    expected = whole(path)
    (tmp_path / "a.jp2").write_bytes(b"not read")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr(decoded, "has_rasterio", lambda: False)
    assert np.array_equal(whole(path), expected)
    with pytest.raises(ModuleNotFoundError, match=r"a.jp2 needs rasterio: pip install rasterio"):
        open_source(tmp_path / "a.jp2")


def test_pickled_threaded_and_forked(tmp_path: Path) -> None:
    window = Window(3, 4, 20, 30)
    place = {"driver": "PNG", "crs": None, "transform": None}
    values = pixels(count=4)
    values[..., 3] = 255
    for path in (write(tmp_path / "a.tif", values), write(tmp_path / "a.png", values, **place)):
        with open_source(path, bands=(3, 2, 1)) as source:
            expected = source.read(window)
            assert np.array_equal(expected, values[window.slices][..., 2::-1])
            assert np.array_equal(pickle.loads(pickle.dumps(source)).read(window), expected)
            with ThreadPoolExecutor(4) as threads:
                assert all(np.array_equal(read, expected) for read in threads.map(source.read, [window] * 16))
            with ProcessPoolExecutor(1, mp_context=get_context("fork")) as processes:
                assert np.array_equal(processes.submit(source.read, window).result(), expected)
        assert np.array_equal(source.read(window), expected)
        source.close()


def test_a_tiny_file_may_claim_a_huge_raster(tmp_path: Path) -> None:
    size = {"height": 10**6, "width": 10**6, "count": 1, "blockxsize": 8192, "blockysize": 8192, "tiled": True}
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", dtype="uint8", SPARSE_OK=True, BIGTIFF="YES", **UTM, **size):
        pass
    assert (tmp_path / "a.tif").stat().st_size < 1e6
    with open_source(tmp_path / "a.tif") as source:
        assert source.size == (10**6, 10**6)
        assert not source.read(Window(999_000, 5000, 100, 100)).any()
    chunks = b"IHDR" + struct.pack(">IIBBBBB", 10**6, 10**6, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(100))
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    code = """
import resource, sys
from segscape.rasters.source import open_source
from segscape.geometry.window import Window
resource.setrlimit(resource.RLIMIT_AS, (4 << 30,) * 2)
try:
    open_source(sys.argv[1]).read(Window(0, 0, 9, 9))
except ValueError as error:
    print(error)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True
    )
    assert "a.png claims to have 1000000 x 1000000 pixels" in answer.stdout


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp", ".jp2"])
def test_files_that_are_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in (".tif", ".jp2"):
        write(path, pixels(300, 300), **({"driver": "JP2OpenJPEG"} if suffix == ".jp2" else {"compress": "deflate"}))
    else:
        Image.fromarray(pixels(300, 300)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=rf"a{suffix} (cannot be decoded|is not an image|is no \w+ file)"):
        whole(path)


def test_a_broken_block_names_its_window(tmp_path: Path) -> None:
    values = pixels(64, 64)
    path = write(tmp_path / "a.tif", values, tiled=True, blockxsize=16, blockysize=16)
    # Uncompressed tiles stand in order at the end of the file.
    path.write_bytes(path.read_bytes()[:-1000])
    with open_source(path) as source:
        assert np.array_equal(source.read(Window(0, 0, 16, 64)), values[:16])
        with pytest.raises(
            ValueError, match=r"a.tif cannot be decoded in rows 40 to 63, columns 50 to 63, it may be cut"
        ):
            source.read(Window(40, 50, 24, 14))


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nothing.tif"):
        open_source(tmp_path / "nothing.tif")
    with pytest.raises(FileNotFoundError, match="is no file, but a folder"):
        open_source(tmp_path)
    (tmp_path / "zero.vrt").write_text('<VRTDataset rasterXSize="0" rasterYSize="5"/>')
    (tmp_path / "text.tif").write_text("no image")
    for name, reason in (("zero.vrt", "cannot be decoded"), ("text.tif", "is no tif file")):
        with pytest.raises(ValueError, match=f"{name} {reason}"):
            open_source(tmp_path / name)
    write(tmp_path / "complex.tif", pixels(count=1, dtype="float32").astype(np.complex64))
    with pytest.raises(ValueError, match=r"complex.tif holds complex numbers"):
        open_source(tmp_path / "complex.tif")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path: Path) -> None:
    for path in (write(tmp_path / "a.tif", pixels()), tmp_path / "a.png"):
        path.touch()
        path.chmod(0)
        with pytest.raises(PermissionError, match=f"{path.name} may not be read"):
            open_source(path)


def test_a_real_image_as_photograph_and_as_scene(tmp_path: Path) -> None:
    expected = read_image(INRIA)
    scene = write(tmp_path / "scene.tif", expected, tiled=True, blockxsize=128, blockysize=128, compress="lzw")
    with open_source(INRIA) as photograph, open_source(scene) as source:
        assert photograph.size == source.size == expected.shape[:2]
        for window in windows(source.size, (150, 333)):
            assert np.array_equal(source.read(window), expected[window.slices])
            assert np.array_equal(photograph.read(window), expected[window.slices])


def _png(path: Path, width: int, height: int, depth: int, data: bytes) -> Path:
    """Write a grey PNG with any header and compressed rows."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def _claiming(path: Path, width: int, height: int) -> Path:
    """Have a JPEG claim another size."""
    data = bytearray(path.read_bytes())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    path.write_bytes(data)
    return path


def test_a_size_that_the_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    lying = [
        (_png(tmp_path / "large.png", 14_000, 12_000, 8, zlib.compress(bytes(1_500_000))), "14000 x 12000"),
        (_png(tmp_path / "small.png", 1_000, 1_000, 8, zlib.compress(bytes(1_000))), "1000 x 1000"),
        (_claiming(tmp_path / "a.jpg", 60_000, 50_000), "60000 x 50000"),
    ]
    for path, claimed in lying:
        with pytest.raises(
            ValueError, match=rf"{path.name} claims to have {claimed} pixels, more than its [\d,]+ bytes"
        ):
            open_source(path)
        with pytest.raises(ValueError, match="claims to have"):
            read_mask(path)
        with pytest.raises(ValueError, match="claims to have"):
            read_labels(path)


@settings(deadline=None, max_examples=30)
@given(width=st.integers(1, 700), height=st.integers(1, 700), level=st.integers(1, 9), depth=st.sampled_from([1, 8]))
def test_no_size_that_a_file_holds_is_refused(
    width: int, height: int, level: int, depth: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whole images of one value, which are compressed most."""
    folder = tmp_path_factory.mktemp("solid")
    image = Image.new("1" if depth == 1 else "RGB", (width, height))
    image.save(folder / "a.png", compress_level=level)
    image.convert("L" if depth == 1 else "RGB").save(
        folder / "a.jpg", progressive=level > 5, optimize=True, quality=10 * level
    )
    for name in ("a.png", "a.jpg"):
        assert claimed_size(folder / name) == (height, width)
        assert open_source(folder / name).size == (height, width)


def test_valid_images_beyond_pillow_s_limit_are_read(tmp_path: Path) -> None:
    """600 million pixels in 73 kB."""
    row, pack = b"\0" + bytes(30_000 // 8), zlib.compressobj(9)
    path = _png(tmp_path / "solid.png", 30_000, 20_000, 1, pack.compress(row * 20_000) + pack.flush())
    limit = Image.MAX_IMAGE_PIXELS
    with open_source(path) as source:
        assert source.size == (20_000, 30_000)
        assert not source.read(Window(0, 0, 16, 16)).any()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_large_masks_are_those_of_small_ones(tmp_path: Path, monkeypatch) -> None:
    """They are read by GDAL."""
    values = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    palette = Image.fromarray(values % 3)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "classes.png")
    Image.fromarray(values).save(tmp_path / "mask.png")
    Image.fromarray(values > 127).save(tmp_path / "bits.png")
    names = ("classes.png", "mask.png", "bits.png")
    expected = [read_mask_file(tmp_path / name) for name in names]
    monkeypatch.setattr(decoded, "_DECODED_PIXELS", 100)
    for name, wanted in zip(names, expected, strict=True):
        found = read_mask_file(tmp_path / name)
        if name == "classes.png":
            assert np.array_equal(found.labels, wanted.labels)
            assert found.palette[:3] == wanted.palette[:3]
        else:
            assert np.array_equal(found.values, wanted.values)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
def test_animations_are_refused(suffix: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(pixels()) for _ in range(2)]
    frames[0].save(tmp_path / f"still{suffix}")
    frames[0].save(tmp_path / f"moving{suffix}", save_all=True, append_images=frames[1:], duration=100)
    assert open_source(tmp_path / f"still{suffix}").whole().shape == (*frames[0].size[::-1], 3)
    for read in (open_source, read_mask, read_labels):
        with pytest.raises(
            ValueError, match=rf"moving\{suffix} is an animation; make a video of it, such as moving.mp4"
        ):
            read(tmp_path / f"moving{suffix}")


def test_the_first_of_several_pages_is_read_and_said(tmp_path: Path, caplog) -> None:
    first, second = (Image.fromarray(pixels()) for _ in range(2))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    with caplog.at_level("INFO", "segscape"):
        assert np.array_equal(open_source(tmp_path / "pages.tif").whole(), np.asarray(first))
    assert "pages.tif: it holds 2 images, of which the first is read." in caplog.messages


@pytest.mark.parametrize("name", ["photo.heic", "photo.raw", "photo"])
def test_formats_that_are_not_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(200))
    with pytest.raises(ValueError, match=f"{name} is in no format that can be read; convert it to PNG, JPEG or TIFF"):
        open_source(tmp_path / name)


def test_a_place_that_is_none_is_left_out(tmp_path: Path, caplog) -> None:
    for number, transform in enumerate([Affine(float("inf"), 0, 0, 0, -1, 0), Affine(1e-200, 0, 5, 0, -1e-200, 5)]):
        path = write(tmp_path / f"{number}.tif", pixels())
        with rasterio.open(path, "r+") as dataset:
            dataset.transform = transform
        with caplog.at_level("INFO", "segscape"):
            place = open_source(path).georeference
        assert (place.crs, place.transform) == (None, Affine.identity())
        assert f"{number}.tif: its place is damaged, and is left out." in caplog.messages


def test_texts_that_gdal_cannot_quote(tmp_path: Path, capfd) -> None:
    (tmp_path / "a.vrt").write_bytes(b'<VRTDataset rasterXSize="4" rasterYSize="\xb9"/>')
    with pytest.raises(ValueError, match=r"a.vrt cannot be decoded, it may be cut short or damaged"):
        open_source(tmp_path / "a.vrt")
    assert "Traceback" not in capfd.readouterr().err


def test_heads_that_gdal_fails_at_late(tmp_path: Path) -> None:
    """The tag of the strips has a type that it cannot have, which is noticed when bands are described."""
    path = write(tmp_path / "a.tif", pixels(count=1), photometric="MINISBLACK")
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<HH", 273, 4)) + 2] = 12
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a.tif cannot be decoded, it may be cut short or damaged"):
        open_source(path)


def test_a_png_without_its_palette(tmp_path: Path) -> None:
    Image.fromarray(pixels()[..., 0]).convert("P").save(tmp_path / "a.png", transparency=0)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"PLTE") - 4
    end = start + 12 + struct.unpack_from(">I", data, start)[0]
    (tmp_path / "a.png").write_bytes(data[:start] + data[end:])
    with pytest.raises(ValueError, match=r"a.png cannot be decoded, it may be cut short or damaged"):
        open_source(tmp_path / "a.png")
