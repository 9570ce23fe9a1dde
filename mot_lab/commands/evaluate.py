"""``mot-lab evaluate``: score one checkpoint."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, command


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(commands, "evaluate", _run, "score one checkpoint")
    parser.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run")
    parser.add_argument("--images", type=int, default=256, help="pictures and captions to make")
    parser.add_argument("--steps", type=int, default=50, help="denoising steps")
    parser.add_argument("--extractor", action="append", help="as evaluation.extractors in a study")
    parser.add_argument("--out", type=Path, help="folder for evaluation.json and samples/")


def _run(options: argparse.Namespace) -> None:
    from evaluation.trained_runs import evaluate_checkpoint
    from mot_lab.config import EvaluationConfig

    config = EvaluationConfig(images=options.images, sample_steps=options.steps)
    if options.extractor:
        config.extractors = options.extractor
    out = options.out or options.checkpoint.parent / "evaluation"
    for metric in evaluate_checkpoint(options.checkpoint, config, out):
        value = "not available" if metric.value is None else f"{metric.value:.4g}"
        print(f"{metric.name:36} {value:>14}  n={metric.n}  {metric.extractor}  {metric.note}")
    print(f"Written to {out}")
