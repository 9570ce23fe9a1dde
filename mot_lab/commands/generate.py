"""``mot-lab generate``: pictures or text from a checkpoint."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "generate", _run, "pictures or text from a checkpoint")
    parser.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--caption", action="append", help="draw a picture of this (repeatable)")
    what.add_argument("--picture", action="append", type=Path, help="write this picture's caption")
    what.add_argument("--text", action="append", help="go on with this text")
    parser.add_argument("--out", type=Path, default=Path("generated"), help="folder of pictures")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest answer in tokens")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest")
    parser.add_argument("--seed", type=int, default=0)


def _run(options: argparse.Namespace) -> None:
    from mot_lab.answers import answer_pictures, answer_text, draw
    from mot_lab.trained import load_trained

    trained = load_trained(options.checkpoint)
    if options.caption:
        draw(trained, options.caption, options.out, options.steps, options.seed)
    elif options.picture:
        answer_pictures(trained, options.picture, options.max_tokens)
    else:
        answer_text(trained, options.text, options.max_tokens, options.temperature, options.seed)
