"""Entry point of ``mot-lab``: finds the command, and ends what is wrong with a call in one line.

The commands are in ``mot_lab/commands/``.
"""

import argparse
import re
from collections.abc import Sequence

from mot_lab.commands import (
    arms,
    count,
    data,
    evaluate,
    export,
    fit,
    fit_router,
    generate,
    match,
    plot,
    profile,
    report,
    represent,
    study,
    sync,
    tokenizer,
)
from mot_lab.runtime.ending import ends_as_command
from mot_lab.runtime.quiet import quiet_libraries

DESCRIPTION = (
    "Dense, expert-choice MoE and Mixture-of-Transformers backbones, compared head to head."
)
OVERRIDE = re.compile(r"[^-=][^=]*=")
COMMANDS = (
    *(study, report, plot, match, sync, arms, count, profile, data, tokenizer),
    *(generate, export, evaluate, represent, fit, fit_router),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with 0, or after one line with the code that `ends_as_command` gives."""
    quiet_libraries()
    with ends_as_command():
        options = _options(arguments)
        options.command(options)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was called; settings to change may stand before and after options."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if "overrides" in options:  # argparse takes those that stand together and leaves the others
        options.overrides += [each for each in rest if OVERRIDE.match(each)]
        rest = [each for each in rest if not OVERRIDE.match(each)]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mot-lab", description=DESCRIPTION)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add(commands)
    return parser


if __name__ == "__main__":
    main()
