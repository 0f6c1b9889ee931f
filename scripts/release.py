"""Build the files of a release and try them, as far as that can be done before they are published.

    python scripts/release.py                     everything; the last step downloads PyTorch, some gigabytes
    python scripts/release.py --without-install   all but that last step
    python scripts/release.py --tag v0.1.0        also that the tag of the release names its version

The version must be the same everywhere; the sdist and the wheel are built into dist/ and checked; the wheel is
installed into a new environment, and its commands are run in an empty folder. The first thing that is wrong ends it
with a sentence and the exit status 1. Needs `build`, `twine` and `hatchling`, which `segscape[dev]` brings. Nothing is
published here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PACKAGE = ROOT / "src" / "segscape"
MOST_BYTES = 60_000_000
"""PyPI takes 100 MB a file; a release that comes near that should be a decision."""

SHIPPED = ("weights", "examples", "configs", "py.typed")
COMMANDS = (("--version",), ("models",), ("demo",))
"""What the installed package is tried with; none needs an extra."""


def _found(pattern: str, path: Path) -> str:
    """Return the first group of a pattern's first match in a file.

    Raises:
        ValueError: There is none.
    """
    match = re.search(pattern, path.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{path.name} names no version.")
    return match[1]


def stated_versions(root: Path = ROOT) -> dict[str, str]:
    """Return the version that each file states, by the file's name.

    Raises:
        ValueError: A file states none.
    """
    package = root / "src" / "segscape" / "__init__.py"
    return {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"],
        "src/segscape/__init__.py": _found(r'^__version__ = "(.+)"$', package),
        "CHANGELOG.md": _found(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", root / "CHANGELOG.md"),
        "CITATION.cff": _found(r"^version: (\S+)$", root / "CITATION.cff"),
    }


def check_versions(versions: dict[str, str], tag: str | None = None) -> str:
    """Return the version of the release.

    Args:
        versions: What each file states; see `stated_versions`.
        tag: The tag of the release, `v` and the version.

    Raises:
        ValueError: They differ.
    """
    if len(set(versions.values())) > 1:
        raise ValueError(f"Versions differ: {', '.join(f'{file} says {found}' for file, found in versions.items())}.")
    version = next(iter(versions.values()))
    if tag is not None and tag != f"v{version}":
        raise ValueError(f"The tag is {tag}, but this is version {version}; its tag is v{version}.")
    return version


def _run(what: str, *words: str | Path, folder: Path = ROOT) -> None:
    """Run a program, whose output is shown.

    Raises:
        RuntimeError: It fails; the message says what was being done.
    """
    # What PYTHONPATH adds here is not there for those who install the release.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{what} failed with exit status {done.returncode}; what is wrong stands above.")


def build() -> list[Path]:
    """Build the sdist and the wheel into an empty dist/; without `build` only the wheel, by pip."""
    shutil.rmtree(DIST, ignore_errors=True)
    if find_spec("build") is not None:
        _run("Building", sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, ROOT)
    else:
        print("build is not installed, so pip builds the wheel alone; pip install build makes the sdist, too.")
        pip_wheel = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", DIST, ROOT)
        _run("Building", sys.executable, *pip_wheel)
    return sorted(DIST.iterdir())


def check_sizes(files: list[Path]) -> None:
    """Check that no file is larger than it should be.

    Raises:
        ValueError: One is.
    """
    for file in files:
        size = file.stat().st_size
        print(f"{file.name}: {size / 1e6:.1f} MB")
        if size > MOST_BYTES:
            raise ValueError(f"{file.name} has {size / 1e6:.1f} MB, more than the {MOST_BYTES / 1e6:.0f} MB allowed.")


def check_metadata(files: list[Path]) -> None:
    """Check the metadata and the rendering of the long description as PyPI does.

    Raises:
        RuntimeError: Twine is missing, or finds something.
    """
    if find_spec("twine") is None:
        raise RuntimeError("twine is not installed, so the metadata cannot be checked: pip install twine.")
    _run("The check of the metadata", sys.executable, "-m", "twine", "check", "--strict", *files)


def expected_members() -> set[str]:
    """Return the files that the wheel must hold, as it names them, besides the licence: all of the package.

    Raises:
        ValueError: The package itself lacks something that ships.
    """
    missing = [name for name in SHIPPED if not (PACKAGE / name).exists()]
    if missing:
        raise ValueError(f"src/segscape lacks {', '.join(missing)}.")
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def check_contents(wheel: Path, expected: set[str]) -> None:
    """Check that a wheel holds the code, what ships with it, and the licence.

    Raises:
        ValueError: Something is missing; the message names it.
    """
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    missing = sorted(expected - held)
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in held):
        missing.append("LICENSE")
    if missing:
        more = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
        raise ValueError(f"{wheel.name} lacks {', '.join(missing[:5])}{more}.")
    print(f"{wheel.name} holds the code, weights, examples, configs, py.typed and LICENSE.")


def try_installed(wheel: Path) -> None:
    """Install a wheel into a new environment, and run its commands in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="segscape-release-") as folder:
        environment, empty = Path(folder) / "venv", Path(folder) / "empty"
        empty.mkdir()
        venv.create(environment, with_pip=True)
        programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
        _run("Installing", programs / "python", "-m", "pip", "install", "--quiet", wheel, folder=empty)
        for words in COMMANDS:
            print(f"segscape {' '.join(words)}")
            _run(f"segscape {' '.join(words)}", programs / "segscape", *words, folder=empty)


def release(*, tag: str | None, install: bool) -> None:
    """Go through all steps, each announced in a line.

    Args:
        tag: The tag of the release, if it has one already.
        install: Whether the wheel is installed and tried.
    """
    print("== The version")
    version = check_versions(stated_versions(), tag)
    print(f"{version}, everywhere")
    print("== Building")
    files = build()
    print("== Sizes")
    check_sizes(files)
    print("== Metadata")
    check_metadata(files)
    print("== Contents")
    (wheel,) = [file for file in files if file.suffix == ".whl"]
    check_contents(wheel, expected_members())
    if install:
        print("== Installing into a new environment")
        try_installed(wheel)
    print(f"== Version {version} is ready in {DIST.name}/: {', '.join(file.name for file in files)}")


def main() -> int:
    """Run the script; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", help="the tag of the release, which must name its version")
    parser.add_argument("--without-install", action="store_true", help="do not install the wheel and try it")
    arguments = parser.parse_args()
    # So that these lines stand in order with what the programs print.
    sys.stdout.reconfigure(line_buffering=True)
    try:
        release(tag=arguments.tag, install=not arguments.without_install)
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
