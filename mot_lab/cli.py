"""Entry point of ``mot-lab``: finds the command, and ends what is wrong with a call in one line.

The commands are in ``mot_lab/commands/``.
"""

import argparse
import sys
from collections.abc import Sequence

from mot_lab.commands import (
    arms,
    count,
    data,
    evaluate,
    fit,
    fit_router,
    generate,
    match,
    plot,
    report,
    represent,
    study,
    sync,
    tokenizer,
)
from mot_lab.runtime.quiet import quiet_libraries

DESCRIPTION = (
    "Dense, expert-choice MoE and Mixture-of-Transformers backbones, compared head to head."
)
COMMANDS = (
    *(study, report, plot, match, sync, arms, count, data, tokenizer),
    *(generate, evaluate, represent, fit, fit_router),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with 0, or with 2 after one line on what is wrong."""
    quiet_libraries()
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
    except (ValueError, FloatingPointError) as error:
        print(f"mot-lab: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("mot-lab: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mot-lab", description=DESCRIPTION)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add(commands)
    return parser


if __name__ == "__main__":
    main()
