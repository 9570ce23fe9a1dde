"""``mot-lab arms``: list the arms, one line each."""

import argparse

from mot_lab.commands import Commands, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "arms", _run, "list the arms, one line each")
    parser.add_argument("--modalities", default="text,image", help="names, separated by commas")


def _run(options: argparse.Namespace) -> None:
    from mot_lab.backbones.partitions import partition_arms
    from mot_lab.backbones.wiring import named_arms

    modalities = [name.strip() for name in options.modalities.split(",")]
    for arm in named_arms(modalities).values():
        print(f"{arm.name:22} {arm.description}")
    print(f"{'[[text], [image]]':22} any partition of {modalities}")
    print(f"{'all_partitions':22} each of their {len(partition_arms(modalities))} partitions")
    print(f"{'{name: {arm: ..}}':22} any of these with its own model: and training: settings")
