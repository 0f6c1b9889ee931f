"""The main object cut out: in Python, from the command line, and what goes wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import segscape
from segscape.checkpoints.card import WeightsCard
from segscape.checkpoints.store import inference_state, write_weights
from segscape.cli.main import main
from segscape.cutout.cutter import CutOut, Cutter, default_band
from segscape.labels import SALIENT
from segscape.networks import SegmentationNetwork
from segscape.normalisation import Normalisation
from segscape.rasters.video import VideoSink, VideoSource
from segscape.refinement.refiner import Refinement, Refiner
from segscape.segmentation.segmenter import Segmenter
from tests.fake.pixels import save_pixels
from tests.fake.salient import disk_before_wall as disk

CARD = WeightsCard("stdc1_seg", SALIENT.class_names, SALIENT.palette, Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


class Reddish(SegmentationNetwork):
    """Takes for the object what is redder than it is green, in squares of four pixels."""

    stride = 4
    align_corners = False
    size_multiple = 8

    def __init__(self) -> None:
        super().__init__()
        self.classify = torch.nn.Conv2d(3, 2, 1, bias=False)
        self.classify.weight.data = torch.tensor([[-4.0, 4.0, 0.0], [4.0, -4.0, 0.0]])[..., None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(F.avg_pool2d(images, 4))


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(Reddish(), CARD, device="cpu")


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch, segmenter: Segmenter, refiner_weights: Path) -> Callable[..., int]:
    """Runs `segscape cutout` with the network above."""
    monkeypatch.setattr(Segmenter, "from_weights", lambda *_, **__: segmenter)

    def run(*words: object) -> int:
        refining = [] if "--no-refine" in words else ["--refine-weights", str(refiner_weights)]
        return main(["cutout", *map(str, words), *refining, "--device", "cpu"])

    return run


def save(path: Path, pixels: np.ndarray) -> Path:
    save_pixels(path, pixels)
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("size", [(60, 80), (61, 83), (1, 1), (3, 50)])
def test_probabilities_are_those_of_the_resized_logits(segmenter: Segmenter, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    result = segmenter.probabilities(image)
    padded = np.pad(image, ((0, -size[0] % 8), (0, -size[1] % 8), (0, 0)), "constant", constant_values=0)
    normalised = torch.from_numpy(padded).permute(2, 0, 1)[None] / 127.5 - 1
    normalised[..., size[0] :, :] = 0
    normalised[..., size[1] :] = 0
    logits = Reddish()(normalised)
    expected = F.interpolate(logits, padded.shape[:2], mode="bilinear", align_corners=False).softmax(1)[0]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected[:, : size[0], : size[1]].detach().numpy(), atol=2e-6)
    assert np.array_equal(result.argmax(0), segmenter.segment(image).labels)


def test_probabilities_of_many_rows(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = segmenter.probabilities(disk())
    monkeypatch.setattr("segscape.segmentation.segmenter._MOST_BLOCK_ROWS", 13)
    np.testing.assert_allclose(segmenter.probabilities(disk()), whole, atol=1e-6)
    monkeypatch.setattr(segmenter.runtime, "gives_labels", True)
    with pytest.raises(ValueError, match="gives labels, not how probable they are; export it without --labels"):
        segmenter.probabilities(disk())


def test_a_photograph_cut_out(segmenter: Segmenter, tmp_path: Path) -> None:
    image = disk()
    result = Cutter(segmenter).cut_out(image)
    assert result.found
    assert np.array_equal(result.mask, segmenter.probabilities(image)[1])
    rgba = result.rgba()
    assert (rgba.shape, rgba.dtype) == ((60, 80, 4), np.uint8)
    assert np.array_equal(rgba[..., 3], np.rint(255 * result.mask))
    assert np.array_equal(rgba[28:32, 38:42, :3], image[28:32, 38:42])
    # The wall is bluish; the edge of the disk is not.
    edge = (result.mask > 0.2) & (result.mask < 0.8)
    assert rgba[edge][:, 2].mean() < 0.8 * image[edge][:, 2].mean()
    on_white = result.on("white").astype(float)
    opacity = rgba[..., 3:] / 255
    assert np.abs(on_white - rgba[..., :3] * opacity - 255 * (1 - opacity)).max() < 1.5
    result.save(tmp_path / "a.png")
    result.save(tmp_path / "b.png", background=(255, 255, 255))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), rgba)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), on_white)
    with pytest.raises(ValueError, match=r"saved as PNG, which has transparency; name the file .png, not .*a.jpg"):
        result.save(tmp_path / "a.jpg")


class Recording:
    """Gives a mask back in place of a refiner, and keeps what it was given."""

    def refine(self, image: np.ndarray, mask: np.ndarray, *, band: int, on_progress: object) -> Refinement:
        self.mask, self.band, self.on_progress = mask, band, on_progress
        return Refinement(mask.astype(np.float32), {})


def test_the_mask_is_refined_near_its_edge(segmenter: Segmenter) -> None:
    refiner = Recording()
    image, band, told = disk(), 5, lambda done, total: None
    result = Cutter(segmenter, refiner).cut_out(image, band=band, on_progress=told)
    assert np.array_equal(refiner.mask, segmenter.probabilities(image)[1] > 0.5)
    assert np.array_equal(result.mask, refiner.mask)
    assert set(result.seconds) == {"read", "network", "refine"}
    assert (refiner.band, refiner.on_progress) == (5, told)
    Cutter(segmenter, refiner).cut_out(disk((200, 300)))
    assert refiner.band == default_band((200, 300)) == 6
    Cutter(segmenter, refiner).cut_out(image, band=0)
    assert refiner.band == 0
    assert [default_band(size) for size in ((1, 9), (640, 480), (3000, 4000))] == [1, 15, 93]


def test_nothing_found(segmenter: Segmenter, refiner_weights: Path) -> None:
    refiner = Refiner.from_weights(refiner_weights, "cpu")
    for cutter in (Cutter(segmenter), Cutter(segmenter, refiner)):
        result = cutter.cut_out(disk((20, 30), colour=(40, 90, 200)))
        assert not result.found
        assert not result.rgba().any()
        assert np.array_equal(result.on("#102030"), np.full((20, 30, 3), (16, 32, 48), np.uint8))


def test_networks_with_other_classes(random_weights: Path, segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match=r"two classes, background and the object; this one has Sky, .* more"):
        Cutter.from_weights(random_weights, "cpu", refine_weights=None)
    with pytest.raises(ValueError, match="this cutter has no refiner"):
        Cutter(segmenter).cut_out(disk(), band=3)
    swapped = WeightsCard("stdc1_seg", ("building", "background"), SALIENT.palette, CARD.normalisation)
    other = Cutter(Segmenter(Reddish(), swapped, device="cpu")).cut_out(disk())
    assert np.array_equal(other.mask, segmenter.probabilities(disk())[0])


def test_weights_files(tmp_path: Path, refiner_weights: Path) -> None:
    torch.manual_seed(0)
    network = segscape.create_model("stdc1_seg", 2)
    write_weights(tmp_path / "own.safetensors", CARD, inference_state(network))
    cutter = segscape.Cutter.from_weights(tmp_path / "own.safetensors", "cpu", refine_weights=refiner_weights)
    assert isinstance(cutter.cut_out(disk((20, 30))), segscape.CutOut)
    with pytest.raises(FileNotFoundError, match="There are no weights nobody; give the path of a file, or a name"):
        segscape.Cutter.from_weights("nobody")


def _modes(folder: Path) -> dict[str, Path]:
    photo = Image.fromarray(disk())
    turned = photo.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif, quality=98)
    photo.convert("L").save(folder / "grey.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg", quality=98)
    photo.convert("P").save(folder / "palette.png")
    see_through = photo.copy()
    see_through.putalpha(128)
    see_through.save(folder / "rgba.png")
    Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen.png")
    Image.new("RGB", (1, 1), "red").save(folder / "one.png")
    return {path.stem: path for path in folder.iterdir()}


def test_photographs_of_every_mode(cut, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photos = _modes(tmp_path / "in")
    assert cut(tmp_path / "in", "--output", tmp_path / "out", "--no-refine") == 0
    results = {name: np.asarray(Image.open(tmp_path / "out" / f"{name}_cutout.png")) for name in photos}
    assert {name for name, result in results.items() if not result.any()} == {"grey", "sixteen"}
    assert results["one"][0, 0, :3].tolist() == [255, 0, 0]
    for name in photos.keys() - {"one"}:
        assert results[name].shape == (60, 80, 4)
    for name in ("rgba", "cmyk", "palette", "turned"):
        shares = [np.mean(results[other][..., 3] > 127) for other in (name, "rgba")]
        assert shares[0] == pytest.approx(shares[1], rel=0.05)


def test_folders_files_and_further_files(cut, tmp_path: Path, segmenter: Segmenter, refiner_weights, capsys) -> None:
    photos = tmp_path / "photos"
    a = save(photos / "a.png", disk((30, 40)))
    save(photos / "more" / "b.jpg", disk((24, 32)))
    save(photos / "more" / "wall.jpg", disk((24, 32), colour=(60, 110, 160)))
    output = photos / "out"
    assert cut(photos, "--output", output, "--mask", "--no-refine") == 0
    assert cut(photos, "--output", output, "--mask", "--band", 3) == 0
    assert files(output) == {
        f"{name}_{kind}.png" for name in ("a", "more/b", "more/wall") for kind in ("cutout", "mask")
    }
    expected = Cutter(segmenter, Refiner.from_weights(refiner_weights, "cpu")).cut_out(a, band=3)
    assert np.array_equal(np.asarray(Image.open(output / "a_cutout.png")), expected.rgba())
    mask = Image.open(output / "a_mask.png")
    assert mask.mode == "L"
    assert np.array_equal(np.asarray(mask), expected.grey())
    assert Image.open(output / "more" / "wall_cutout.png").getextrema() == ((0, 0),) * 4
    captured = capsys.readouterr()
    assert "wall.jpg: nothing was found" in captured.err
    assert "3 cut-out(s)" in captured.out
    assert "1 of them empty, as nothing was found" in " ".join(captured.out.split())
    for word in ("read", "network", "refine", "write", "40 x 30", "nothing"):
        assert word in captured.out


def test_another_background(cut, tmp_path: Path, segmenter: Segmenter) -> None:
    photo, beach = save(tmp_path / "a.png", disk()), save(tmp_path / "beach.png", disk((90, 90))[:, ::-1])
    assert cut(photo, "--output", tmp_path / "colour", "--no-refine", "--background", "#00ff80") == 0
    assert cut(photo, "--output", tmp_path / "picture", "--no-refine", "--background", beach) == 0
    result = Cutter(segmenter).cut_out(photo)
    for folder, background in (("colour", (0, 255, 128)), ("picture", beach)):
        written = Image.open(tmp_path / folder / "a_cutout.png")
        assert written.mode == "RGB"
        assert np.array_equal(np.asarray(written), result.on(background))


def test_bad_photographs_among_good_ones(cut, tmp_path: Path, capsys) -> None:
    good = save(tmp_path / "good.png", disk())
    (tmp_path / "cut.jpg").write_bytes(save(tmp_path / "whole.jpg", disk()).read_bytes()[:500])
    (tmp_path / "text.png").write_text("no picture")
    inputs = [tmp_path / name for name in ("cut.jpg", "text.png", "missing.jpg")]
    assert cut(*inputs, good, "--output", tmp_path / "out", "--no-refine") == 3
    captured = capsys.readouterr()
    for message in ("cut.jpg cannot be decoded", "text.png is not an image that can be read", "There is no file"):
        assert message in captured.err
    assert "1 cut-out(s)" in captured.out
    assert "3 of 4 input(s) could not be cut out" in captured.out
    assert files(tmp_path / "out") == {"good_cutout.png"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{a}", "--background", "wite"], "wite is neither a colour"),
        (["{a}", "--background", "{text}"], "text.png is not an image that can be read"),
        (["{folder}/*.bmp"], "Nothing matches"),
        (["{a}", "{other}"], "would both be written to"),
        (["{a_cutout}", "{a}", "--output", "{folder}"], "a_cutout.png is one of the inputs and would be overwritten"),
        (["{a}", "--background", "{a_cutout}", "--output", "{folder}"], "is one of the inputs and would be"),
        (["{a}", "--output", "{a}/x"], "is a file, not a folder"),
        (["{a}", "--no-refine", "--band", "3"], "which --no-refine leaves out"),
        (["{video}"], "film.mp4 is a video, and those that are written have no transparency: give a --background"),
        (["{a}", "--calibration", "{folder}"], "--calibration is for --precision int8"),
    ],
)
def test_bad_plans_stop_before_any_work(cut, tmp_path: Path, monkeypatch, capsys, words, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    places = {
        "a": save(folder / "a.png", disk()),
        "a_cutout": save(folder / "a_cutout.png", disk()),
        "other": save(folder / "other" / "a.jpg", disk()),
        "folder": folder,
        "video": folder / "film.mp4",
        "text": folder / "text.png",
    }
    (folder / "text.png").write_text("no picture")
    before = files(tmp_path)
    words = [word.format(**places) for word in words]
    output = [] if "--output" in words else ["--output", tmp_path / "out"]
    assert cut(*words, *output) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("error:") == 1
    assert files(tmp_path) == before


def test_weights_that_are_not_there(tmp_path: Path, capsys) -> None:
    photo = str(save(tmp_path / "a.png", disk()))
    words = ["cutout", photo, "--output", str(tmp_path / "out"), "--weights", "nobody"]
    assert main(words) == 1
    assert "There are no weights nobody; give the path of a file, or a name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_videos(cut, tmp_path: Path, capsys) -> None:
    film, wall = tmp_path / "film.mp4", tmp_path / "wall.mp4"
    for path, colour in ((film, (220, 40, 30)), (wall, (60, 110, 160))):
        with VideoSink(path, (48, 64), 10) as sink:
            for _ in range(3):
                sink.write(disk((48, 64), colour))
    words = (film, wall, "--output", tmp_path / "out", "--no-refine")
    assert cut(*words, "--background", "lime", "--mask") == 0
    captured = capsys.readouterr()
    assert "wall.mp4: nothing was found" in captured.err
    assert "2 cut-out(s)" in captured.out
    assert files(tmp_path / "out") == {f"{name}_{kind}.mp4" for name in ("film", "wall") for kind in ("cutout", "mask")}
    composed = [frame.pixels for frame in VideoSource(tmp_path / "out" / "film_cutout.mp4")]
    assert len(composed) == 3
    assert np.abs(composed[1][2, 2].astype(int) - (0, 255, 0)).max() < 12
    assert np.abs(composed[1][24, 32].astype(int) - (220, 40, 30)).max() < 30
    mask = next(iter(VideoSource(tmp_path / "out" / "film_mask.mp4"))).pixels
    assert mask[24, 32].min() > 225
    assert mask[2, 2].max() < 30
    assert cut(*words, "--mask", "--output", tmp_path / "masks") == 0
    assert files(tmp_path / "masks") == {"film_mask.mp4", "wall_mask.mp4"}
    wall.write_text("no video")
    assert cut(*words, "--background", "lime") == 3
    assert "1 of 2 input(s) could not be cut out" in capsys.readouterr().out


def test_the_object_is_whole() -> None:
    """What `CutOut` says of a mask that is nothing but opaque."""
    result = CutOut(disk(), np.ones((60, 80), np.float32), {})
    assert np.array_equal(result.on("red"), disk())
    assert np.array_equal(result.rgba()[..., :3], disk())
