"""The commands of ``mot-lab``; nothing else.

What is wrong with a call ends in one line and exit code 2.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mot_lab.runtime.quiet import quiet_libraries

Command = Callable[[argparse.Namespace], None]

DESCRIPTION = (
    "Dense, expert-choice MoE and Mixture-of-Transformers backbones, compared head to head."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exits with 0, or with 2 after one line on what is wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet_libraries()
    try:
        if arguments[:1] == ["fit"]:
            from mot_lab.fit import fit

            fit(arguments[1:])
        else:
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

    study = _add(commands, "study", _study, "train and compare all arms of a study, and report")
    study.add_argument("config", type=Path, help="YAML file of the study")
    _add_overrides(study)
    study.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all studies")
    study.add_argument(
        "--tracking-uri", help="MLflow store (default: sqlite in the study's folder)"
    )

    report = _add(commands, "report", _report, "rebuild a study's report from its tracking store")
    report.add_argument("study", type=Path, help="folder of the study, like runs/transfusion")
    report.add_argument(
        "--tracking-uri", help="MLflow store (default: sqlite in the study's folder)"
    )
    report.add_argument("--out", type=Path, help="folder to write to (default: the study's)")

    sync = _add(commands, "sync", _sync, "send a tracking store what it lacks of a study's runs")
    sync.add_argument("study", type=Path, help="folder of the study, like runs/transfusion")
    sync.add_argument("--tracking-uri", help="MLflow store (default: sqlite in the study's folder)")

    arms = _add(commands, "arms", _arms, "list the arms, one line each")
    arms.add_argument("--modalities", default="text,image", help="names, separated by commas")

    count = _add(
        commands, "count", _count, "parameters and FLOPs of every arm, from structure alone"
    )
    count.add_argument("config", type=Path, help="YAML file of a study")
    _add_overrides(count)
    count.add_argument("--json", action="store_true", help="print JSON")

    generate = _add(commands, "generate", _generate, "pictures or text from a checkpoint")
    generate.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run")
    what = generate.add_mutually_exclusive_group(required=True)
    what.add_argument("--caption", action="append", help="draw a picture of this (repeatable)")
    what.add_argument("--picture", action="append", type=Path, help="write this picture's caption")
    what.add_argument("--text", action="append", help="go on with this text")
    generate.add_argument("--out", type=Path, default=Path("generated"), help="folder of pictures")
    generate.add_argument("--steps", type=int, default=50, help="denoising steps")
    generate.add_argument("--max-tokens", type=int, default=64, help="longest answer in tokens")
    generate.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest")
    generate.add_argument("--seed", type=int, default=0)

    evaluate = _add(commands, "evaluate", _evaluate, "score one checkpoint")
    evaluate.add_argument("checkpoint", type=Path, help="checkpoint.ckpt of a run")
    evaluate.add_argument("--images", type=int, default=256, help="pictures and captions to make")
    evaluate.add_argument("--steps", type=int, default=50, help="denoising steps")
    evaluate.add_argument(
        "--extractor", action="append", help="as evaluation.extractors in a study"
    )
    evaluate.add_argument("--out", type=Path, help="folder for evaluation.json and samples/")

    _add(commands, "fit", _study, "train one run, by LightningCLI: mot-lab fit --help")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Command,
    what: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.set_defaults(command=command)
    return parser


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings to change, in YAML"
    )


def _study(options: argparse.Namespace) -> None:
    from evaluation.report import build_report
    from evaluation.trained_runs import evaluate_run, prepare_evaluators
    from mot_lab.config import load_study
    from mot_lab.study import Study

    config = load_study(options.config, options.overrides)
    text = options.config.read_text()
    if options.overrides:
        text += "\n# changed on the command line: " + " ".join(options.overrides) + "\n"
    study = Study(config, text, options.runs / config.name, options.tracking_uri)
    study.run(prepare_evaluators, evaluate_run)
    page = build_report(study.tracking_uri, config.name, study.folder)
    print(f"The report is in {page}")


def _report(options: argparse.Namespace) -> None:
    from evaluation.report import build_report
    from mot_lab.runtime.mlflow_store import default_tracking_uri

    uri = options.tracking_uri or default_tracking_uri(options.study)
    print(f"The report is in {build_report(uri, options.study.name, options.out or options.study)}")


def _sync(options: argparse.Namespace) -> None:
    from mot_lab.runtime.mlflow_store import default_tracking_uri
    from mot_lab.runtime.sending import sync_run

    runs = sorted(path.parent for path in options.study.glob("*/run.json"))
    if not runs:
        raise ValueError(f"{options.study} holds no runs")
    uri = options.tracking_uri or default_tracking_uri(options.study)
    for run in runs:
        print(f"{run.name}: {sync_run(run, uri)} values sent to {uri}")


def _arms(options: argparse.Namespace) -> None:
    from mot_lab.backbones.wiring import named_arms

    modalities = [name.strip() for name in options.modalities.split(",")]
    for arm in named_arms(modalities).values():
        print(f"{arm.name:18} {arm.description}")
    print(f"{'[[text], [image]]':18} any partition of {modalities}")


def _count(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from mot_lab.config import load_study
    from mot_lab.counting import arm_cost, nominal_workload

    config = load_study(options.config, options.overrides)
    workload = nominal_workload(config.data)
    costs = {arm.name: arm_cost(config, arm, workload) for arm in config.parsed_arms()}
    if options.json:
        print(json.dumps({name: asdict(cost) for name, cost in costs.items()}, indent=2))
        return
    print(f"{'arm':18} {'parameters':>14} {'active':>14} {'FLOPs per step':>16}")
    for name, cost in costs.items():
        print(
            f"{name:18} {cost.parameters:14,} {cost.active_parameters:14,} "
            f"{cost.flops_per_step:16.4e}"
        )
    print("A step of full rows, half of the tokens image patches, plain causal attention.")


def _generate(options: argparse.Namespace) -> None:
    from mot_lab.generate_command import answer_pictures, answer_text, draw
    from mot_lab.trained import load_trained

    trained = load_trained(options.checkpoint)
    if options.caption:
        draw(trained, options.caption, options.out, options.steps, options.seed)
    elif options.picture:
        answer_pictures(trained, options.picture, options.max_tokens)
    else:
        answer_text(trained, options.text, options.max_tokens, options.temperature, options.seed)


def _evaluate(options: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    main()
