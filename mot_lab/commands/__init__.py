"""One module per command of ``mot-lab``: ``add`` declares its options, ``_run`` does it."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Command = Callable[[argparse.Namespace], None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, name: str, run: Command, what: str) -> argparse.ArgumentParser:
    """A parser for one command, which calls ``run`` with the parsed options."""
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(command=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """A study's YAML file and settings that replace some of it."""
    parser.add_argument("config", type=Path, help="YAML file of a study")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings to change, in YAML"
    )


def add_tracking_uri(parser: argparse.ArgumentParser) -> None:
    """Where a study's runs are tracked."""
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: sqlite in the study's folder)"
    )
