"""Scores trained runs: losses on held-out data, pictures from captions, captions from pictures.

All figures are of the averaged weights. What a run is scored on depends on the study's
configuration only, so every arm and seed answers the same prompts from the same noise. Arms with
experts draw and write under causal routing; their losses are given under training routing too.
"""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

from evaluation.metric import Metric
from evaluation.metrics.evaluators import load_evaluators
from evaluation.metrics.suite import Evaluators
from evaluation.trained.answers import (
    picture_answers,
    picture_samples,
    pictures_unavailable,
    speaks,
    speech_answers,
    speech_samples,
    unavailable,
)
from evaluation.trained.causality import causality_record, probe_causality
from evaluation.trained.held_out import held_out_losses, loss_metrics
from evaluation.trained.routing import router_record, routing_record, routings
from mot_lab.backbones.transformer import Routing
from mot_lab.causal_router import load_router, router_path
from mot_lab.config import EvaluationConfig
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import PreparedData
from mot_lab.expert_load import ExpertTally
from mot_lab.generation.generate import why_not
from mot_lab.runtime.files import write_json
from mot_lab.runtime.plain_files import laid_out, read_json
from mot_lab.trained import Trained, load_trained
from mot_lab.training import Run

PROBED_BATCHES = 2
NO_PAIRS = "the test split has no pictures with captions"
TALLIED_SPLIT = "val"  # what the experts take is counted on; their routers are judged on it too


def evaluate_run(run: Run) -> None:
    """Score a run into ``artifacts/evaluation.json``, unless it was, with the causal router that
    it has now.
    """
    target = run.folder.artifacts_path / "evaluation.json"
    if _is_scored(target, router_path(run.checkpoint)):
        return
    data = MultimodalDataModule(run.config.data)
    evaluators = load_evaluators(run.config.evaluation, data.prepared)
    trained = load_trained(run.checkpoint, data.prepared)
    write_json(target, evaluate(trained, data, run.config.evaluation, evaluators, target.parent))


def _is_scored(target: Path, router: Path) -> bool:
    if not target.exists():
        return False
    scored = read_json(target)
    with laid_out(target):
        if "causality" not in scored:  # of an earlier version
            return False
        kept = scored["routing"]["router"] if router.exists() else None
    return not router.exists() or kept == router_record(load_router(router))


def prepare_evaluators(config: EvaluationConfig, data: PreparedData) -> dict[str, Any]:
    """Fetch or fit what a configuration names.

    Returns:
        what the evaluators are, for the study's record.
    """
    data.require_pairs(2 * config.images)
    evaluators = load_evaluators(config, data)
    return {
        "extractors": [each.name for each in evaluators.extractors],
        "clips": [each.name for each in evaluators.clips],
        "images": config.images,
        "sample_steps": config.sample_steps,
    }


def evaluate_checkpoint(path: Path, config: EvaluationConfig, out: Path) -> list[Metric]:
    """Score one checkpoint into ``out/evaluation.json`` and ``out/samples/``."""
    trained = load_trained(path)
    trained.data.require_pairs(2 * config.images)
    data = MultimodalDataModule(trained.data.config)
    scored = evaluate(trained, data, config, load_evaluators(config, data.prepared), out)
    write_json(out / "evaluation.json", scored)
    return [Metric(**metric) for metric in scored["metrics"]]


def evaluate(
    trained: Trained,
    data: MultimodalDataModule,
    config: EvaluationConfig,
    evaluators: Evaluators,
    folder: Path,
) -> dict[str, Any]:
    """Everything that ``evaluation.json`` holds of one trained model.

    Args:
        trained: where it has experts, with its causal routers; without them pictures, captions and
            losses under causal routing are not available.
        data: whose held-out splits it is judged on.
        config: how many pictures and captions.
        evaluators: the networks to use.
        folder: where ``samples/`` is written.

    Returns:
        ``metrics``, ``samples``, ``speech`` (samples, empty without speech), ``routing`` (None
        without experts) and ``causality``.
    """
    net, prepared = trained.module.net, data.prepared
    metrics, routing = _losses(trained, data)
    probed = list(islice(data.held_out_loader(TALLIED_SPLIT), PROBED_BATCHES))
    causality = causality_record(probe_causality(net, probed))
    samples: list[dict[str, Any]] = []
    spoken: list[dict[str, Any]] = []
    if reason := why_not(net):
        metrics += unavailable(evaluators, prepared, reason)
        samples = picture_samples(prepared, config, folder)
        if speaks(prepared):
            spoken = speech_samples(prepared, config, folder)
    else:
        if prepared.pairs("test") is None:
            metrics += pictures_unavailable(evaluators, prepared, NO_PAIRS)
        else:
            answered, samples = picture_answers(net, prepared, config, evaluators, folder)
            metrics += answered
        if speaks(prepared):
            answered, spoken = speech_answers(net, prepared, config, folder)
            metrics += answered
    return {
        "metrics": [asdict(metric) for metric in metrics],
        "samples": samples,
        "speech": spoken,
        "routing": routing,
        "causality": causality,
    }


def _losses(
    trained: Trained, data: MultimodalDataModule
) -> tuple[list[Metric], dict[str, Any] | None]:
    """Perplexities and diffusion losses under every routing, and the record of the routing."""
    net = trained.module.net
    names = routings(net)
    tallies = {name: ExpertTally() for name in names}
    losses = {}
    for name in names:
        with net.transformer.routing(cast(Routing, "training" if name == "none" else name)):
            losses[name] = {
                split: held_out_losses(
                    net,
                    data.held_out_loader(split),
                    tallies[name] if split == TALLIED_SPLIT else None,
                )
                for split in data.config.held_out
            }
    objective = trained.module.config.diffusion.objective
    metrics = [
        metric
        for split in data.config.held_out
        for name in reversed(names)  # what may be compared with other arms comes first
        for metric in loss_metrics(losses[name][split], split, name, data, objective)
    ]
    if names == ("none",):
        return metrics, None
    return metrics, routing_record(losses, tallies, trained.router)
