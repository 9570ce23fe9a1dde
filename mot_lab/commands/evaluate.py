"""``mot-lab evaluate``: score one checkpoint, or pictures or captions from files."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mot_lab.commands import Commands, command

if TYPE_CHECKING:
    from evaluation.files.scores import FileScores
    from evaluation.metric import Metric

IMAGES, STEPS = 256, 50


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = command(
        commands, "evaluate", _run, "score one checkpoint, or pictures or captions from files"
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint.ckpt of a run")
    parser.add_argument("--images", type=int, help=f"pictures and captions to make ({IMAGES})")
    parser.add_argument("--steps", type=int, help=f"denoising steps ({STEPS})")
    parser.add_argument(
        "--generated",
        type=Path,
        metavar="DIR|FILE.json",
        help="instead of a checkpoint: pictures, or captions as COCO results",
    )
    parser.add_argument(
        "--reference", type=Path, metavar="DIR", help="real pictures, for FID and KID"
    )
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE.json",
        help="of the pictures, for the CLIP score; or the real ones, as COCO annotations",
    )
    parser.add_argument(
        "--extractor",
        action="append",
        metavar="NAME",
        help="as evaluation.metrics.extractors in a study (pictures from files: inception)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="folder for evaluation.json and samples/")


def _run(options: argparse.Namespace) -> None:
    from mot_lab.runtime.files import write_json

    _require_sense(options)
    if options.checkpoint is not None:
        _score_checkpoint(options)
        return
    scores = _score_files(options)
    if options.json:
        _print_json(scores.metrics, {"counts": scores.counts})
    else:
        _print_metrics(scores.metrics)
        print(*scores.counts, sep="\n")
    if options.out is not None:
        content = {"metrics": [asdict(m) for m in scores.metrics], "counts": scores.counts}
        write_json(options.out / "evaluation.json", content)


def _require_sense(options: argparse.Namespace) -> None:
    """Refuses options that do not go together, before anything heavy is imported."""
    checkpoint, generated = options.checkpoint, options.generated
    if (checkpoint is None) == (generated is None):
        raise ValueError(
            "evaluate takes either a checkpoint or files: mot-lab evaluate CHECKPOINT, or "
            "mot-lab evaluate --generated FOLDER --reference FOLDER"
        )
    if checkpoint is not None:
        _refuse(options, "a checkpoint", "reference", "captions")
        return
    _refuse(options, "--generated", "images", "steps")
    if options.reference is not None and not options.reference.is_dir():
        raise ValueError(f"{options.reference} is no folder: give a folder of real pictures")
    if not generated.exists():
        raise ValueError(f"{generated} does not exist: give a folder of pictures or COCO results")
    if generated.is_file():
        _refuse(options, "generated captions", "reference", "extractor")
        if options.captions is None:
            raise ValueError(f"{generated} needs real captions: --captions ANNOTATIONS.json")


def _refuse(options: argparse.Namespace, beside: str, *names: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} has no meaning beside {beside}: leave it out")


def _score_files(options: argparse.Namespace) -> "FileScores":
    import torch

    from evaluation.files.scores import score_caption_results, score_pictures
    from evaluation.metrics.evaluators import load_evaluators
    from mot_lab.config import EvaluationConfig

    if options.generated.is_file():
        return score_caption_results(options.generated, options.captions)
    names = options.extractor or (["inception"] if options.reference is not None else [])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    evaluators = load_evaluators(EvaluationConfig(extractors=names), None, device)
    return score_pictures(options.generated, options.reference, options.captions, evaluators)


def _score_checkpoint(options: argparse.Namespace) -> None:
    from evaluation.trained.runs import evaluate_checkpoint
    from mot_lab.config import EvaluationConfig

    images = IMAGES if options.images is None else options.images
    config = EvaluationConfig(
        images=images,
        sample_steps=STEPS if options.steps is None else options.steps,
        shown=min(EvaluationConfig.shown, images),
    )
    if options.extractor:
        config.extractors = options.extractor
    out = options.out or options.checkpoint.parent / "evaluation"
    metrics = evaluate_checkpoint(options.checkpoint, config, out)
    written = json.loads((out / "evaluation.json").read_text())
    routing, causality = written.get("routing"), written.get("causality", [])
    if options.json:
        _print_json(metrics, {"routing": routing, "causality": causality})
        return
    _print_metrics(metrics)
    for line in [*_routing_lines(routing), *map(_causality_line, causality)]:
        print(line)
    print(f"Written to {out}")


def _print_metrics(metrics: "list[Metric]") -> None:
    for metric in metrics:
        value = "not available" if metric.value is None else f"{metric.value:.4g}"
        interval = "" if metric.low is None else f"[{metric.low:.4g}, {metric.high:.4g}]"
        print(
            f"{metric.name:36} {value:>14} {interval:20}  n={metric.n}  {metric.extractor}  "
            f"{metric.note}"
        )


def _print_json(metrics: "list[Metric]", beside: dict[str, Any]) -> None:
    """Without the draws of the intervals: those are in evaluation.json."""
    shown = [{k: v for k, v in asdict(metric).items() if k != "draws"} for metric in metrics]
    print(json.dumps({"metrics": shown, **beside}, indent=2))


def _routing_lines(routing: dict[str, Any] | None) -> list[str]:
    """The part "routing" of evaluation.json; None for a model without experts."""
    if routing is None:
        return []
    if routing["router"] is None:
        return ["causal routing: not available; run `mot-lab fit-router` on the checkpoint"]
    lines = [
        f"{loss['modality']} loss ({loss['split']}): training routing {loss['training']:.4g}, "
        f"causal routing {loss['causal']:.4g}, leak {loss['causal'] - loss['training']:.4g}  "
        f"n={loss['n']}"
        for loss in routing["losses"]
    ]
    for each in routing["experts"]:
        lines.append(
            f"layer {each['layer']}, experts of {each['tower']}: {each['modality']} tokens that no "
            f"expert took: training routing {each['unrouted_training']:.1%}, causal routing "
            f"{each['unrouted_causal']:.1%}"
        )
    return lines


def _causality_line(probe: dict[str, Any]) -> str:
    verdict = "LEAKS: the past depends on the future" if probe["leaks"] else "no leak"
    routing = "no routing" if probe["routing"] == "none" else f"{probe['routing']} routing"
    return (
        f"causality, {routing}: {verdict}; {probe['changed']} of {probe['positions']} past "
        f"positions changed, by {probe['largest']:.2g} at most"
    )
