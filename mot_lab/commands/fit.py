"""``mot-lab fit``: train one run by LightningCLI, which parses the options itself."""

import argparse

from mot_lab.commands import Commands


def add(commands: Commands) -> None:
    """Declare the command; whatever follows its name is LightningCLI's."""
    what = "train one run, by LightningCLI: mot-lab fit --help"
    parser = commands.add_parser("fit", help=what, add_help=False, prefix_chars="\0")
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    from mot_lab.fit import fit

    fit(options.arguments)
