"""The manners of the command line: quick answers, exit statuses, JSON, lists, completion, and ends in the middle."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image
from scripts import renew_completions, renew_figures, renew_settings

import segscape
from segscape.arguments import COMMANDS, whole_parser
from segscape.arguments.training import SETTINGS_FILE, settings
from segscape.choices import RuntimeName
from segscape.cli.commands.completion import COMPLETIONS
from segscape.cli.main import main
from segscape.figures import FIGURES_FILE, figures
from segscape.runtime.create import RUNTIME_NAMES

EXAMPLES = Path(segscape.__file__).parent / "examples"
FRAMES = EXAMPLES / "camvid" / "images" / "val"


def _run(*words: object, **settings) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "segscape", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **settings)


def _lines(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


# What is answered at once.


def _modules_of(*words: object) -> set[str]:
    code = (
        f"import sys; from segscape.cli.main import main\ntry:\n    main({list(map(str, words))!r})\nexcept SystemExit:"
    )
    code += "\n    pass\nfinally:\n    print('MODULES', *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split("MODULES ")[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["--json-usage"],
        ["segmnt"],
        ["models"],
        ["completion", "bash"],
        ["config", "show", "stdc1_seg/camvid"],
        *([command, "--help"] for command in COMMANDS),
        ["segment", "photo.jpg", "--ouput", "labels"],
        ["segment", "nowhere/*.jpg", "--output", "labels"],
        ["segment", FRAMES, "--output", "labels", "--weights", "scapenet_lite0.stret"],
        ["fit", "--config", "scapenet_lite0/street", "--data.rot", "data"],
        ["fit", "--config", "scapenet_lite0/stret"],
    ],
    ids=lambda words: " ".join(map(str, words[:2])),
)
def test_is_answered_without_large_libraries(words: list[object]) -> None:
    assert not _modules_of(*words) & {"torch", "numpy", "lightning", "numba", "cv2", "rasterio"}


def test_data_is_checked_without_torch() -> None:
    assert not _modules_of("data", "check", EXAMPLES / "camvid") & {"torch", "torchvision", "lightning", "numba"}


def test_one_photograph_is_segmented_without_compilers(tmp_path: Path) -> None:
    loaded = _modules_of("segment", next(FRAMES.glob("*.jpg")), "--output", tmp_path)
    assert not loaded & {"numba", "torchvision", "timm", "lightning", "torch._dynamo", "matplotlib"}


def test_kept_figures_are_those_that_are_counted() -> None:
    assert json.loads(FIGURES_FILE.read_text()) == json.loads(json.dumps(renew_figures.collect())), (
        "run `python scripts/renew_figures.py`"
    )


def test_settings_change_on_purpose_only() -> None:
    """The frozen list of the settings of `fit` and its relatives."""
    kept = {entry["name"]: entry for entry in json.loads(SETTINGS_FILE.read_text())["settings"]}
    found = {entry["name"]: entry for entry in json.loads(json.dumps(renew_settings.collect()))}
    advice = "; if that is on purpose, run `python scripts/renew_settings.py` and say so in CHANGELOG.md"
    assert kept.keys() == found.keys(), f"settings have come or gone: {sorted(kept.keys() ^ found.keys())}{advice}"
    changed = [name for name in kept if kept[name] != found[name]]
    assert not changed, f"settings have changed: {changed}{advice}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_those_of_the_arguments(shell: str) -> None:
    kept = (COMPLETIONS / f"segscape.{shell}").read_text()
    assert kept == renew_completions.script(shell), "run `python scripts/renew_completions.py`"


def test_every_command_is_there() -> None:
    for command in COMMANDS.values():
        assert callable(import_module(f"segscape.cli.commands.{command.module}").run)


def test_runtimes_have_the_names_that_can_be_chosen() -> None:
    assert RuntimeName.__args__ == RUNTIME_NAMES


# Wrong arguments.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["segmnt"], "did you mean segment?"),
        (["segment", "photo.jpg", "--ouput", "x"], "there is no argument --ouput: did you mean --output?"),
        (["segment", "photo.jpg", "--output", "x", "--overlai"], "--overlai: did you mean --overlay?"),
        (["segment", "photo.jpg", "--output", "x", "--runtime", "openvin"], "did you mean openvino?"),
        (["segment", "photo.jpg", "--outp", "x"], "did you mean --output?"),
        (["segment", "photo.jpg"], "required: --output"),
        (["segment", "photo.jpg", "--output", "x", "--quiet", "--verbose"], "not allowed with"),
        (["data", "chek", "x"], "did you mean check?"),
        (["fit", "--modle.name", "stdc1_seg"], "did you mean --model.name?"),
        (["fit", "--data.batch_size", "many"], "--data.batch_size takes int, not 'many'."),
        (["fit", "--model.optimiser.name", "sdg"], "takes sgd or adam or adamw, not 'sdg'."),
        (["fit", "--model", "[1]"], "--model takes a file of its settings"),
        (
            ["export", "x", "--format", "onx", "--size", "8x8", "--output", "x"],
            "did you mean onnx?",
        ),
    ],
)
def test_wrong_arguments_are_told_with_the_right_ones(words: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) <= 2
    assert not told.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "--config", "scapenet_lite0/stret"], "did you mean scapenet_lite0/street"),
        (["fit", "--model.name", "stdc1_sg"], "did you mean stdc1_seg"),
        (["fit", "--model.name", "stdc1_seg", "--data.dataset", "camvd"], "did you mean camvid?"),
        (["fit", "--config", "stdc1_seg/camvid", "--data.root", "nowhere"], "There is no folder nowhere"),
        (
            ["validate", "--config", "stdc1_seg/camvid", "--data.root", ".", "--model.weights", "no.pth"],
            "no weights no.pth",
        ),
        (["convert", "stdc1_sg", "a.pth", "b.safetensors"], "did you mean stdc1_seg"),
        (["refine", "a.jpg", "a.png", "--weights", "crm_efficientnet_lite0.object"], "did you mean crm"),
        (["benchmark", "stdc1_sg"], "There are no weights stdc1_sg"),
        (["models", "nothing*"], "No network matches nothing*"),
        (["config", "show", "stdc1_seg/camvd"], "did you mean stdc1_seg/camvid"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(words: list[str], said: str, capsys) -> None:
    assert main(words) == 1
    told = capsys.readouterr().err
    assert said in told
    assert told.count("error:") == 1


def test_no_words_show_the_help(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert "segment" in capsys.readouterr().err


def test_usage_as_json_has_every_command_and_argument(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--json-usage"])
    assert end.value.code == 0
    usage = json.loads(capsys.readouterr().out)
    assert usage["schema"] == 1
    commands = {command["name"].split()[-1]: command for command in usage["commands"]}
    assert commands.keys() == COMMANDS.keys()
    arguments = {argument["name"]: argument for argument in commands["segment"]["arguments"]}
    assert arguments["output"]["required"]
    assert arguments["runtime"]["choices"][0] == "auto"
    assert {f"--{setting.name}" for setting in settings() if "fit" in setting.commands} <= {
        flag for argument in commands["fit"]["arguments"] for flag in argument["flags"]
    }
    assert [command["name"] for command in commands["data"]["commands"]] == [
        "segscape data prepare",
        "segscape data check",
    ]


def test_every_argument_has_help() -> None:
    for command in json.loads(_run("--json-usage").stdout)["commands"]:
        for argument in command["arguments"]:
            assert argument["help"], (command["name"], argument["name"])


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("completion", "data", "config")])
def test_reporting_is_everywhere(command: str) -> None:
    parser = whole_parser(command)._subparsers._group_actions[0].choices[command]
    assert {"--json", "--quiet", "--verbose"} <= parser._option_string_actions.keys()


# JSON, quiet, verbose.


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small frames, and one that is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    for name, frame in zip("ab", sorted(FRAMES.glob("*.jpg")), strict=False):
        Image.open(frame).resize((96, 72)).save(folder / f"{name}.jpg")
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:700])
    return folder


def test_json_is_a_line_for_each_result(photos: Path, tmp_path: Path, capsys) -> None:
    assert main(["segment", str(photos), "--output", str(tmp_path), "--overlay", "--json"]) == 3
    told = capsys.readouterr()
    lines = _lines(told.out)
    assert [line["kind"] for line in lines] == ["image", "image", "failure", "summary"]
    assert all(line["schema"] == 1 and line["command"] == "segment" for line in lines)
    first, _, failure, summary = lines
    assert first["image"] == str(photos / "a.jpg")
    assert Path(first["labels"]).is_file()
    assert Path(first["overlay"]).is_file()
    assert first["size"] == [72, 96]
    assert sum(first["shares"].values()) == pytest.approx(1)
    assert failure["image"] == str(photos / "cut.jpg")
    assert "cut short" in failure["error"]
    assert (summary["done"], summary["skipped"], summary["failed"]) == (2, 0, 1)
    assert "cut short" in told.err


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (["models"], {"network", "weights"}),
        (["config", "list"], {"config"}),
        (["config", "show", "stdc1_seg/camvid"], {"config"}),
        (["data", "check", str(EXAMPLES / "camvid")], {"split"}),
        (["doctor", "--no-speed"], {"doctor"}),
    ],
)
def test_nothing_but_json_stands_on_standard_output(words: list[str], kinds: set[str], capsys) -> None:
    assert main([*words, "--json"]) == 0
    assert {line["kind"] for line in _lines(capsys.readouterr().out)} == kinds
    assert main([*words, "--quiet"]) == 0
    told = capsys.readouterr()
    assert not told.out
    assert not told.err


def test_quiet_prints_errors_alone(photos: Path, tmp_path: Path, capsys) -> None:
    assert main(["segment", str(photos), "--output", str(tmp_path), "--quiet"]) == 3
    told = capsys.readouterr()
    assert not told.out
    assert len(told.err.splitlines()) == 1
    assert "error:" in told.err


def test_verbose_tells_where_an_error_came_from(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.pth").write_text("no checkpoint")
    words = ["convert", "stdc1_seg", str(tmp_path / "x.pth"), str(tmp_path / "y.safetensors")]
    assert main(words) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*words, "--verbose"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("error: ")


# Lists, what is there already, plans.


def test_files_are_listed_on_standard_input(photos: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a name\nof two lines -.jpg"
    shutil.copy(photos / "a.jpg", odd)
    listed = f"{odd}\0{photos / 'b.jpg'}\0"
    ran = _run("segment", "-", "--output", tmp_path / "out", "--json", input=listed)
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    ran = _run("segment", "-", "--output", tmp_path / "lines", input=f"{photos / 'a.jpg'}\n{photos / 'b.jpg'}\n")
    assert sorted(path.name for path in (tmp_path / "lines").iterdir()) == ["a.png", "b.png"]
    ran = _run("segment", "-", "--output", tmp_path / "none", input="")
    assert ran.returncode == 1
    assert "Standard input names no file" in ran.stderr


def test_what_is_there_is_left_out(photos: Path, tmp_path: Path, capsys) -> None:
    words = ["segment", str(photos / "a.jpg"), str(photos / "b.jpg"), "--output", str(tmp_path), "--skip-existing"]
    assert main([*words[:2], *words[3:]]) == 0
    written = (tmp_path / "a.png").stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    lines = _lines(capsys.readouterr().out)
    assert [line["kind"] for line in lines] == ["image", "summary"]
    assert lines[0]["image"].endswith("b.jpg")
    assert lines[1]["skipped"] == 1
    assert (tmp_path / "a.png").stat().st_mtime_ns == written
    # A file that is wanted and missing: the image is done again.
    assert main([*words, "--overlay", "--json"]) == 0
    assert _lines(capsys.readouterr().out)[-1]["done"] == 2
    assert main([*words, "--overlay"]) == 0
    assert "2 image(s) left out" in capsys.readouterr().out


def test_masks_that_are_there_are_left_out(tmp_path: Path, refiner_weights: Path, capsys) -> None:
    for name in ("aeroplane.jpg", "aeroplane.png"):
        Image.open(EXAMPLES / "refine" / name).resize((96, 64)).save(tmp_path / name)
    pair = [str(tmp_path / "aeroplane.jpg"), str(tmp_path / "aeroplane.png")]
    words = ["refine", *pair, "--output", str(tmp_path / "out"), "--weights", str(refiner_weights), "--json"]
    assert main([*words, "--dry-run"]) == 0
    planned = _lines(capsys.readouterr().out)
    assert [line["kind"] for line in planned] == ["plan"]
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    lines = _lines(capsys.readouterr().out)
    assert [line["kind"] for line in lines] == ["mask", "summary"]
    assert lines[0]["refined"] == planned[0]["refined"]
    assert main([*words, "--skip-existing"]) == 0
    assert [(line["kind"], line.get("skipped")) for line in _lines(capsys.readouterr().out)] == [("summary", 1)]


@pytest.mark.parametrize("command", ["cutout", "export", "benchmark", "convert"])
def test_a_dry_run_writes_nothing(command: str, tmp_path: Path, photos: Path, capsys) -> None:
    weights = str(Path(segscape.__file__).parent / "weights" / "scapenet_lite0.street.safetensors")
    words = {
        "cutout": [str(photos / "a.jpg"), "--output", str(tmp_path / "out")],
        "export": [weights, "--format", "onnx", "--size", "64x64", "--output", str(tmp_path / "x.onnx")],
        "benchmark": ["stdc1_seg", "--sizes", "64x64", "--output", str(tmp_path / "x.json")],
        "convert": ["stdc1_seg", str(tmp_path / "x.safetensors"), str(tmp_path / "y.pth"), "--to-official"],
    }[command]
    if command == "convert":
        from segscape.checkpoints.card import WeightsCard
        from segscape.checkpoints.store import create_model, write_weights
        from segscape.normalisation import Normalisation

        card = WeightsCard("stdc1_seg", ("a", "b"), ((0, 0, 0), (1, 1, 1)), Normalisation())
        write_weights(tmp_path / "x.safetensors", card, create_model("stdc1_seg", 2).state_dict())
    before = sorted(tmp_path.iterdir())
    assert main([command, *words, "--dry-run"]) == 0
    assert capsys.readouterr().out.strip()
    assert sorted(tmp_path.iterdir()) == before


def test_a_preparation_is_planned(tmp_path: Path, capsys) -> None:
    from tests.fake.street import write_camvid_download

    write_camvid_download(tmp_path / "download")
    words = ["data", "prepare", "camvid", "--source", str(tmp_path / "download"), "--root", str(tmp_path / "camvid")]
    assert main([*words, "--dry-run", "--json"]) == 0
    [line] = _lines(capsys.readouterr().out)
    assert line["kind"] == "plan"
    assert not (tmp_path / "camvid").exists()
    assert main([*words, "--workers", "1", "--json"]) == 0
    [line_done] = _lines(capsys.readouterr().out)
    assert line_done["written"] == sum(line["counts"].values())


# Configs.


def test_a_shipped_config_is_the_base_of_ones_own(tmp_path: Path, capsys) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("base: stdc1_seg/cityscapes\nmodel: {optimiser: {lr: 0.5}}\n")
    assert main(["config", "show", str(own), "--json"]) == 0
    [line] = _lines(capsys.readouterr().out)
    assert line["settings"]["model"]["optimiser"]["lr"] == 0.5
    assert line["settings"]["model"]["name"] == "stdc1_seg"
    assert main(["config", "show", str(own)]) == 0
    # What is printed is a config of the same settings.
    import yaml

    assert yaml.safe_load(capsys.readouterr().out) == line["settings"]
    own.write_text("base: stdc1_seg/cityscaps\n")
    assert main(["config", "show", str(own)]) == 1
    told = capsys.readouterr().err
    assert f"{own} builds on a config that is not there" in told
    assert "did you mean stdc1_seg/cityscapes" in told


# Ends in the middle.


def _begin(*words: object, **settings) -> subprocess.Popen:
    command = [sys.executable, "-m", "segscape", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_keeps_what_is_done(number: int, status: int, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    frame = next(FRAMES.glob("*.jpg"))
    for index in range(300):
        (folder / f"{index:03}.jpg").symlink_to(frame)
    process = _begin("segment", folder, "--output", output)
    deadline = time.monotonic() + 120
    while not list(output.glob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    assert "the same command with --skip-existing goes on" in errors
    assert "Traceback" not in errors
    written = list(output.iterdir())
    assert 0 < len(written) < 300
    for path in written:
        assert path.suffix == ".png"
        Image.open(path).load()


def test_a_closed_pipe_ends_in_silence(photos: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "segscape", "segment", photos / "a.jpg", "--output", tmp_path, "--json"]
    ran = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert ran.returncode == 141
    assert not ran.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("se", {"segment"}),
        ("segment --weights scapenet_lite0.s", {"scapenet_lite0.salient", "scapenet_lite0.street"}),
        ("segment --over", {"--overlay"}),
        ("fit --config scapenet_lite0/s", {"scapenet_lite0/salient", "scapenet_lite0/street"}),
        ("convert stdc", {"stdc1_seg", "stdc2_seg"}),
        ("data ch", {"check"}),
    ],
)
def test_bash_completes(words: str, found: set[str]) -> None:
    code = (
        f'eval "$({sys.executable} -m segscape completion bash)"; COMP_WORDS=(segscape {words}); '
        f"COMP_CWORD={len(words.split())}; _shtab_segscape; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == found


@pytest.mark.parametrize(("shell", "check"), [("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_other_shells_take_their_scripts(shell: str, check: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert subprocess.run([shell, *check, COMPLETIONS / f"segscape.{shell}"], capture_output=True).returncode == 0


def test_the_doctor_tells_what_is_there(capsys) -> None:
    assert main(["doctor", "--no-speed", "--json"]) == 0
    [page] = _lines(capsys.readouterr().out)
    assert page["segscape"]["version"] == segscape.__version__
    assert "cpu" in page["devices"]
    assert {"train", "onnx", "video"} <= page["extras"].keys()
    assert re.match(r"\d", page["libraries"]["torch"])
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    for word in ("ms, median of", "GFLOP/s", "numba", "writable"):
        assert word in told
    assert figures()["weights"]
