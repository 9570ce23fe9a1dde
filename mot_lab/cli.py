"""Entry point of ``mot-lab``: finds the command, and ends what is wrong with a call in one line.

The commands are in ``mot_lab/commands/``.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

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
from mot_lab.parsing import one_line
from mot_lab.runtime.quiet import quiet_libraries
from mot_lab.runtime.signals import Stopped, ends_on_signals, kill_workers, requeue

DESCRIPTION = (
    "Dense, expert-choice MoE and Mixture-of-Transformers backbones, compared head to head."
)
OVERRIDE = re.compile(r"[^-=][^=]*=")
COMMANDS = (
    *(study, report, plot, match, sync, arms, count, profile, data, tokenizer),
    *(generate, export, evaluate, represent, fit, fit_router),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with 0, or after one line with 2 (something is wrong with the call), 1 (the machine
    failed it: a full disk, say) or, asked to end, with 128 + the signal's number.
    """
    quiet_libraries()
    try:
        with ends_on_signals():
            options = _options(arguments)
            options.command(options)
    except (ValueError, FloatingPointError) as error:
        _end(one_line(error), 2)
    except RecursionError:  # a parser of a library: those of plain_files say which file it was
        _end("a file that was given is nested too deeply to be read", 2)
    except OSError as error:
        _end(one_line(error), 1)
    except Stopped as stop:
        kill_workers()  # done with their checkpoints, they would take seconds to shut down
        said = "interrupted; the same command goes on from here"
        if outcome := requeue():
            said += f"; {outcome}"
        _end(said, stop.code)


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


def _end(said: str, code: Any) -> NoReturn:
    print(f"mot-lab: {said}", file=sys.stderr)
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mot-lab", description=DESCRIPTION)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add(commands)
    return parser


if __name__ == "__main__":
    main()
