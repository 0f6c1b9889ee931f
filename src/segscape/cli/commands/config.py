"""`segscape config`: the configs that ship, and what a config resolves to."""

from __future__ import annotations

import argparse

import yaml

from segscape.cli.output import Output
from segscape.config_file import find_config, load_config, shipped_configs
from segscape.messages import shown


def run(arguments: argparse.Namespace) -> int:
    """Run `segscape config list` or `segscape config show`."""
    output = Output(arguments)
    if arguments.action == "list":
        for name in shipped_configs():
            output.console.print(name)
            output.record("config", name=name)
        return 0
    path = find_config(arguments.name)
    config = load_config(path)
    output.record("config", name=arguments.name, file=path, settings=config)
    # Without the console, which would break long lines: what is printed is a config itself.
    if not (arguments.json or arguments.quiet):
        print(shown(yaml.safe_dump(config, sort_keys=False, allow_unicode=True)), end="")
    return 0
