"""Masks and class maps from every kind of file, and GeoTIFF out."""

import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from rasterio.transform import from_origin
from scipy import ndimage

from segscape.labels import IGNORE_INDEX
from segscape.rasters import decoded
from segscape.rasters.geotiff import read_georeference
from segscape.rasters.image import read_image
from segscape.rasters.masks import (
    ClassMap,
    ObjectMask,
    read_mask,
    read_mask_file,
    to_mask,
    write_class_map,
    write_mask,
)

SHADES = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
UTM = {"crs": "EPSG:32616", "transform": from_origin(733601, 3725139, 0.5, 0.5)}


def _write_tiff(path: Path, bands: np.ndarray, **profile) -> Path:
    bands = bands[None] if bands.ndim == 2 else np.moveaxis(bands, -1, 0)
    profile = {"driver": "GTiff", "count": len(bands), "dtype": bands.dtype, **UTM, **profile}
    with rasterio.open(path, "w", height=bands.shape[1], width=bands.shape[2], **profile) as dataset:
        dataset.write(bands)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_shades(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"mask{suffix}"), SHADES)
    assert np.allclose(read_mask(tmp_path / f"mask{suffix}"), [[0, 0.2, 0.4], [0.6, 0.8, 1]], atol=1e-7)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_their_precision(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 1, 40000], [20000, 65534, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / f"mask{suffix}"), values)
    mask = read_mask(tmp_path / f"mask{suffix}")
    assert mask.dtype == np.float32
    assert np.allclose(mask, values / 65535, rtol=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_zeros_and_ones_are_binary(tmp_path: Path, dtype: type) -> None:
    values = np.eye(5, 7, dtype=dtype)
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), values.astype(np.float32))
    assert not read_mask_file(_write_tiff(tmp_path / "zero.tif", np.zeros((3, 4), np.uint8))).values.any()


@settings(max_examples=20)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_a_written_mask_is_read_back(tmp_path_factory, values: np.ndarray) -> None:
    values[0, 0] = 255
    folder = tmp_path_factory.mktemp("written")
    for suffix in (".png", ".tif"):
        write_mask(folder / f"a{suffix}", values, like=ObjectMask(values / np.float32(255)))
        assert np.array_equal(np.rint(read_mask(folder / f"a{suffix}") * 255), values)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opacity_that_varies_is_the_mask(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (3, 2), "yellow")
    image.putalpha(Image.fromarray(SHADES))
    image.save(tmp_path / "mask.png")
    assert np.allclose(read_mask(tmp_path / "mask.png") * 255, SHADES)
    image = Image.fromarray(SHADES).convert(mode)
    image.save(tmp_path / "opaque.png")
    assert np.allclose(read_mask(tmp_path / "opaque.png") * 255, SHADES)


def test_grey_in_three_channels(tmp_path: Path) -> None:
    Image.fromarray(SHADES).convert("RGB").save(tmp_path / "mask.png")
    assert np.allclose(read_mask(tmp_path / "mask.png") * 255, SHADES)
    assert np.allclose(to_mask(Image.fromarray(SHADES)) * 255, SHADES)


def test_a_mask_turns_with_its_orientation_tag(tmp_path: Path) -> None:
    """An image and its mask from the same camera software both lie on their sides, and both stand up."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SHADES).save(tmp_path / "mask.png", exif=exif)
    Image.fromarray(np.dstack([SHADES] * 3)).save(tmp_path / "image.png", exif=exif)
    mask = read_mask(tmp_path / "mask.png")
    assert np.allclose(mask * 255, np.rot90(SHADES, -1))
    assert np.allclose(mask * 255, read_image(tmp_path / "image.png")[..., 0])


@pytest.mark.parametrize("with_rasterio", [True, False])
def test_floating_point(tmp_path: Path, monkeypatch, with_rasterio: bool) -> None:
    values = (SHADES / 255).astype(np.float32)
    path = _write_tiff(tmp_path / "mask.tif", values, crs=None, transform=None)
    monkeypatch.setattr(decoded, "has_rasterio", lambda: with_rasterio)
    assert np.array_equal(read_mask(path), values)
    for bad in (values * 255, values - 1, np.full_like(values, np.nan)):
        _write_tiff(path, bad, crs=None, transform=None)
        with pytest.raises(ValueError, match=r"mask\.tif has floating-point values from .* lie in 0 to 1"):
            read_mask(path)


@pytest.mark.parametrize("with_rasterio", [True, False])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_makes_a_class_map(tmp_path: Path, monkeypatch, with_rasterio: bool, suffix: str) -> None:
    monkeypatch.setattr(decoded, "has_rasterio", lambda: with_rasterio)
    image = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90] + [0, 0, 0] * 253)
    path = tmp_path / f"labels{suffix}"
    image.save(path)
    found = read_mask_file(path)
    assert isinstance(found, ClassMap)
    assert found.labels.tolist() == [[0, 1], [2, 255]]
    assert found.palette[:3] == ((10, 20, 30), (40, 50, 60), (70, 80, 90))
    assert found.ignore_index == IGNORE_INDEX
    with pytest.raises(ValueError, match="is a class map"):
        read_mask(path)
    with pytest.raises(ValueError, match="is a class map"):
        to_mask(image)


def test_grey_as_classes(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1], [7, 7]], np.uint16)).save(tmp_path / "labels.png")
    found = read_mask_file(tmp_path / "labels.png", as_classes=True)
    assert isinstance(found, ClassMap)
    assert found.labels.tolist() == [[0, 1], [7, 7]]
    assert found.palette == ()
    write_class_map(tmp_path / "back.png", found.labels, like=found)
    assert Image.open(tmp_path / "back.png").mode == "L"
    assert np.asarray(Image.open(tmp_path / "back.png")).tolist() == [[0, 1], [7, 7]]
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(tmp_path / "labels.png")
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        read_mask_file(tmp_path / "labels.png", as_classes=True)


def test_what_is_no_mask(tmp_path: Path, camvid_examples: Path) -> None:
    photo = sorted((camvid_examples / "images" / "val").iterdir())[0]
    with pytest.raises(ValueError, match=r"3 channels that differ, like a photograph; a mask is binary, grey"):
        read_mask(photo)
    with pytest.raises(ValueError, match="is no class map"):
        read_mask_file(photo, as_classes=True)
    with pytest.raises(ValueError, match="mode CMYK"):
        to_mask(Image.new("CMYK", (2, 2)))
    with pytest.raises(ValueError, match="no mask of 1, 8 or 16 bits"):
        read_mask(_write_tiff(tmp_path / "negative.tif", np.array([[-5, 9]], np.int16)))
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.tif"):
        read_mask(tmp_path / "none.tif")
    for name in ("cut.png", "cut.tif"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
        with pytest.raises(ValueError, match=f"{name} cannot be decoded"):
            read_mask(tmp_path / name)


def test_geotiff_keeps_its_place(tmp_path: Path) -> None:
    path = _write_tiff(tmp_path / "mask.tif", np.eye(300, 400, dtype=np.uint8), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(SURVEY="spring")
    mask = read_mask_file(path)
    write_mask(tmp_path / "out" / "refined.tif", SHADES.repeat(150, 0).repeat(133, 1), like=mask)
    with rasterio.open(tmp_path / "out" / "refined.tif") as dataset:
        assert (dataset.crs.to_epsg(), dataset.transform, dataset.nodata) == (32616, UTM["transform"], 0)
        assert dataset.tags()["SURVEY"] == "spring"
        assert dataset.compression.name == "deflate"
        assert dataset.block_shapes == [(256, 256)]
        assert np.array_equal(dataset.read(1), SHADES.repeat(150, 0).repeat(133, 1))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["refined.tif"]


def test_pixels_without_data_stay_without(tmp_path: Path) -> None:
    mask = read_mask_file(_write_tiff(tmp_path / "mask.tif", np.array([[0, 1, 255]], np.uint8), nodata=255))
    assert isinstance(mask, ObjectMask)
    assert mask.values.tolist() == [[0, 1, 0]]
    write_mask(tmp_path / "refined.tif", np.array([[3, 255, 9]], np.uint8), like=mask)
    with rasterio.open(tmp_path / "refined.tif") as dataset:
        assert dataset.read(1).tolist() == [[3, 254, 255]]
        assert dataset.nodata == 255
    unit = np.array([[0, 0.5, -9999, np.nan]], np.float32)
    mask = read_mask_file(_write_tiff(tmp_path / "mask.tif", unit[:, :3], nodata=-9999))
    assert mask.values.tolist() == [[0, 0.5, 0]]
    mask = read_mask_file(_write_tiff(tmp_path / "mask.tif", unit[:, [0, 1, 3]], nodata=np.nan))
    assert mask.values.tolist() == [[0, 0.5, 0]]
    write_mask(tmp_path / "refined.tif", np.array([[3, 255, 9]], np.uint8), like=mask)
    assert read_georeference(tmp_path / "refined.tif").nodata is None


@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint32", "int32"])
def test_eight_bits_in_a_deeper_type_are_read_as_such_and_said(tmp_path: Path, caplog, dtype: str) -> None:
    values = np.zeros((40, 50), np.uint8)
    values[10:30, 10:40] = 255
    values[12, 10:40] = 128
    path = tmp_path / f"{dtype}.tif"
    with rasterio.open(path, "w", driver="GTiff", dtype=dtype, count=1, height=40, width=50) as dataset:
        dataset.write(values.astype(dtype), 1)
    with caplog.at_level("INFO", logger="segscape"):
        assert np.array_equal(read_mask(path), values / np.float32(255))
    assert [f"its {dtype} values do not exceed 255" in text for text in caplog.messages] == [True]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbered_objects_are_no_mask_of_one(tmp_path: Path, dtype: type) -> None:
    values = np.zeros((300, 400), dtype)
    for number in range(1, 155):
        row, col = divmod(number - 1, 16)
        values[row * 28 + 2 : row * 28 + 24, col * 24 + 2 : col * 24 + 20] = number
    Image.fromarray(values).save(tmp_path / "objects.png")
    with pytest.raises(ValueError, match=r"objects.png holds 154 numbered objects.*--classes"):
        read_mask(tmp_path / "objects.png")


@given(st.integers(0, 100), st.sampled_from(["ramp", "blurred", "noisy", "levels"]))
@settings(max_examples=30, deadline=None)
def test_soft_masks_are_no_numbered_objects(tmp_path_factory, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 160))
    mask[20:90, 30:120] = 1
    if kind == "ramp":
        mask = np.tile(np.linspace(0, 1, 160), (120, 1)) ** rng.uniform(0.3, 3)
    elif kind == "blurred":
        mask = ndimage.gaussian_filter(mask, rng.uniform(0.5, 12))
    elif kind == "noisy":
        mask = np.clip(mask + rng.normal(0, 0.05, mask.shape), 0, 1)
    else:
        mask = np.rint(ndimage.gaussian_filter(mask, 9) * 60) / 60
    path = tmp_path_factory.mktemp("soft") / "soft.png"
    Image.fromarray((mask * 255).astype(np.uint8)).save(path)
    assert read_mask(path).shape == (120, 160)


def test_class_map_as_geotiff(tmp_path: Path) -> None:
    path = _write_tiff(tmp_path / "labels.tif", np.array([[0, 1, 2]], np.uint8), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (200, 0, 0, 255), 2: (0, 200, 0, 255)})
    found = read_mask_file(path)
    assert isinstance(found, ClassMap)
    assert found.ignore_index == 0
    write_class_map(tmp_path / "refined.tif", found.labels, like=found)
    with rasterio.open(tmp_path / "refined.tif") as dataset:
        assert dataset.colormap(1)[2] == (0, 200, 0, 255)
        assert dataset.read(1).tolist() == [[0, 1, 2]]
        assert (dataset.crs.to_epsg(), dataset.nodata) == (32616, 0)


def test_a_tiff_without_rasterio(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs rasterio: pip install rasterio"):
        write_mask(tmp_path / "a.tif", SHADES, like=ObjectMask(SHADES / np.float32(255)))
    assert not list(tmp_path.iterdir())


def test_a_picture_of_many_bands_is_no_mask(tmp_path: Path) -> None:
    """Refused by its head: the bands themselves would take minutes to read."""
    path = tmp_path / "bands.tif"
    count, side = 65_535, 16
    eights = struct.pack("<H", 8) * count
    sizes = [
        (256, side),
        (257, side),
        (258, count),
        (259, 1),
        (262, 1),
        (273, 1),
        (277, 1),
        (278, 1),
        (279, 1),
        (284, 1),
    ]
    values = {258: 8, 273: 0, 277: count, 278: side, 279: 0}
    kinds = {273: 4, 279: 4}
    tags = [
        struct.pack("<HHII", tag, kinds.get(tag, 3), count if tag == 258 else 1, values.get(tag, number))
        for tag, number in sizes
    ]
    head = b"II*\0" + struct.pack("<I", 8 + len(eights)) + eights
    path.write_bytes(head + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4))
    with pytest.raises(ValueError, match=r"bands.tif has 65535 bands; a mask or a class raster has one"):
        read_mask_file(path)
