"""Scores trained runs: losses on held-out data, pictures from captions, captions from pictures.

All figures are of the averaged weights. What a run is scored on depends on the study's
configuration only, so every arm and seed answers the same prompts from the same noise. Arms with
experts draw and write under causal routing; their losses are given under training routing too.

Shapes: N pictures, H x W pixels.
"""

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from evaluation.metric import Metric, not_available
from evaluation.metrics.evaluators import caption_of, load_evaluators
from evaluation.metrics.suite import Evaluators, score_captions, score_images
from evaluation.trained.causality import causality_record, probe_causality
from evaluation.trained.held_out import SPLITS, held_out_losses, loss_metrics
from evaluation.trained.routing import router_record, routing_record, routings
from mot_lab.backbones.transformer import Routing
from mot_lab.causal_router import load_router, router_path
from mot_lab.config import EvaluationConfig
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import PreparedData
from mot_lab.expert_load import ExpertTally
from mot_lab.generate import generate_captions, generate_images, why_not
from mot_lab.runtime.files import write_json
from mot_lab.trained import Trained, load_trained
from mot_lab.training import Run

PROMPT_SEED = 0
PROBED_BATCHES = 2
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
    scored = json.loads(target.read_text())
    if "causality" not in scored:  # of an earlier version
        return False
    return not router.exists() or scored["routing"]["router"] == router_record(load_router(router))


def prepare_evaluators(config: EvaluationConfig, data: PreparedData) -> dict[str, Any]:
    """Fetch or fit what a configuration names.

    Returns:
        what the evaluators are, for the study's record.
    """
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
        ``metrics``, ``samples``, ``routing`` (None without experts) and ``causality``.
    """
    net = trained.module.net
    metrics, routing = _losses(trained, data)
    probed = list(islice(data.held_out_loader(TALLIED_SPLIT), PROBED_BATCHES))
    causality = causality_record(probe_causality(net, probed))
    if reason := why_not(net):
        metrics += _unavailable(evaluators, reason)
        samples = _prompts(data.prepared, config, folder)
    else:
        answered, samples = _answers(trained, data.prepared, config, evaluators, folder)
        metrics += answered
    return {
        "metrics": [asdict(metric) for metric in metrics],
        "samples": samples,
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
                for split in SPLITS
            }
    objective = trained.module.config.diffusion.objective
    metrics = [
        metric
        for split in SPLITS
        for name in reversed(names)  # what may be compared with other arms comes first
        for metric in loss_metrics(losses[name][split], split, name, data, objective)
    ]
    if names == ("none",):
        return metrics, None
    return metrics, routing_record(losses, tallies, trained.router)


def _prompts(data: PreparedData, config: EvaluationConfig, folder: Path) -> list[dict[str, Any]]:
    """The first prompts with their references and real pictures, as the report shows them."""
    samples = []
    for i, real_HWC in enumerate(data.pictures("test", 0, config.shown)):
        scene = data.source.scene("test", data.config.seed, i)
        samples.append(
            {
                "prompt": caption_of(data, "test", i),
                "references": data.source.captions(scene),
                "reference": _save(real_HWC, folder, f"samples/{i}_real.png"),
            }
        )
    return samples


def _answers(
    trained: Trained,
    data: PreparedData,
    config: EvaluationConfig,
    evaluators: Evaluators,
    folder: Path,
) -> tuple[list[Metric], list[dict[str, Any]]]:
    """Pictures drawn for captions and captions written for pictures, scored, and the first few."""
    net = trained.module.net
    scenes = [data.source.scene("test", data.config.seed, i) for i in range(config.images)]
    prompts = [caption_of(data, "test", i) for i in range(config.images)]
    tokens = [np.array(data.texts.encode(prompt)) for prompt in prompts]
    latents_NCHW = generate_images(net, tokens, data.layout, PROMPT_SEED, config.sample_steps)
    generated_NHWC = data.images.decode(latents_NCHW)
    # Frechet distances are taken to other real pictures of the same split.
    real_NHWC = data.pictures("test", 0, config.images)
    reference_MHWC = data.pictures("test", config.images, config.images)
    metrics = score_images(
        generated_NHWC, prompts, real_NHWC, reference_MHWC, evaluators, scenes, data.source
    )
    pool = data.pool("test")
    clean_NCHW = torch.from_numpy(np.array(pool.latents_NCHW[: config.images]))
    ids = generate_captions(net, clean_NCHW, data.layout, pool.longest_caption + 1)
    captions = [data.texts.decode(each) for each in ids]
    metrics += score_captions(captions, [data.source.captions(scene) for scene in scenes])
    samples = _prompts(data, config, folder)
    for i, sample in enumerate(samples):
        sample["generated"] = _save(generated_NHWC[i], folder, f"samples/{i}.png")
        sample["caption"] = captions[i]
    return metrics, samples


def _unavailable(evaluators: Evaluators, reason: str) -> list[Metric]:
    named = [(each.distance, each.name) for each in evaluators.extractors]
    named += [("CLIP score", each.name) for each in evaluators.clips]
    named += [(f"{what} right", "exact scene checker") for what in ("objects", "ground", "scenes")]
    named.append(("CIDEr", "pycocoevalcap CIDEr"))
    return [not_available(name, extractor, reason) for name, extractor in named]


def _save(image_HWC: np.ndarray, folder: Path, name: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_HWC).save(path)
    return name
