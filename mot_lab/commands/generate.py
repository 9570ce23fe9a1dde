"""``mot-lab generate``: text, pictures and speech from a checkpoint."""

import argparse
from collections.abc import Callable
from pathlib import Path

from mot_lab.commands import Commands, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(
        commands, "generate", _run, "text, pictures and speech that follow a prompt of the same"
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run, or an export")
    prompt = parser.add_argument_group("prompt", "parts in the order they are read, repeatable")
    for option, kind, metavar in (
        ("--text", "text", "WORDS"),
        ("--picture", "image", "FILE"),
        ("--speech", "speech", "FILE"),
    ):
        prompt.add_argument(
            option, dest="parts", action="append", type=_part(kind), metavar=metavar, default=[]
        )
    prompt.add_argument(
        "--caption",
        dest="captions",
        action="append",
        metavar="WORDS",
        default=[],
        help="a prompt of its own: short for --text WORDS --want image",
    )
    prompt.add_argument(
        "--want",
        metavar="KIND",
        help="text (default), image, speech, or free: the model goes from one to another",
    )
    prompt.add_argument("--number", type=int, default=1, help="answers to each prompt")
    parser.add_argument("--out", type=Path, default=Path("generated"), help="folder of the files")
    parser.add_argument(
        "--temperature",
        type=float,
        help="0 takes the likeliest (default for text); all else is drawn, by default at 1",
    )
    parser.add_argument("--top-p", type=float, default=1.0, help="share of the nucleus")
    parser.add_argument("--guidance", type=float, default=1.0, help="of pictures; 1 is none")
    parser.add_argument("--sampler", help="ddim, ddpm or flow (default: the model's)")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps")
    parser.add_argument("--max-tokens", type=int, default=64, help="longest text of an answer")
    parser.add_argument("--max-units", type=int, default=256, help="longest speech, 25 a second")
    parser.add_argument("--seed", type=int, default=0)


def _part(kind: str) -> Callable[[str], tuple[str, str]]:
    def part(value: str) -> tuple[str, str]:
        return kind, value

    return part


def _run(options: argparse.Namespace) -> None:
    from mot_lab.generation.answers import answer_prompts
    from mot_lab.generation.sampling import Sampling
    from mot_lab.trained import load_trained

    prompts, want = _prompts(options)
    temperature = options.temperature
    if temperature is None:
        temperature = 0.0 if want == "text" else 1.0
    sampling = Sampling(
        temperature,
        options.top_p,
        options.guidance,
        options.sampler,
        options.steps,
        options.max_tokens,
        options.max_units,
        seed=options.seed,
    )
    answer_prompts(load_trained(options.checkpoint), prompts, want, sampling, options.out)


def _prompts(options: argparse.Namespace) -> tuple[list[list[tuple[str, str]]], str]:
    if options.number < 1:
        raise ValueError(f"--number {options.number} must be at least 1")
    if options.captions and (options.parts or options.want not in (None, "image")):
        raise ValueError(
            "--caption is a prompt of its own, for a picture: give --text, with other parts or "
            "another --want"
        )
    if options.captions:
        prompts = [[("text", caption)] for caption in options.captions]
        return [prompt for prompt in prompts for _ in range(options.number)], "image"
    if not options.parts and options.want is None:
        raise ValueError("nothing to go on from: give --text, --picture, --speech or --want")
    return [options.parts] * options.number, options.want or "text"
