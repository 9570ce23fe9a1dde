"""Scores trained runs: losses on held-out data, pictures from captions, captions from pictures.

All figures are of the averaged weights. What a run is scored on depends on the study's
configuration only, so every arm and seed answers the same prompts from the same noise.

Shapes: N pictures, H x W pixels.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from evaluation.bootstrap import mean_interval
from evaluation.clip_score import ClipModel, load_open_clip
from evaluation.extractors import clip_features, efficientnet_lite, inception
from evaluation.metric import Metric, not_available
from evaluation.perplexity import perplexity, unigram_perplexity
from evaluation.scene_clip import SceneClipConfig, load_scene_clip
from evaluation.suite import Evaluators, score_captions, score_images
from mot_lab.config import EvaluationConfig
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import PreparedData
from mot_lab.generate import generate_captions, generate_images, why_not
from mot_lab.module import MultimodalModule
from mot_lab.runtime.files import write_json
from mot_lab.trained import load_trained
from mot_lab.training import Run

LOSS_SPLITS = {"test": "unseen combinations", "unseen": "unseen emojis"}
PROMPT_SEED = 0


def evaluate_run(run: Run) -> None:
    """Score a run that has not been scored yet, into ``artifacts/evaluation.json``."""
    target = run.folder.artifacts_path / "evaluation.json"
    if target.exists():
        return
    config = run.config.evaluation
    data = MultimodalDataModule(run.config.data)
    evaluators = load_evaluators(config, data.prepared)
    module = load_trained(run.checkpoint, data.prepared).module
    write_json(target, evaluate_module(module, data, config, evaluators, target.parent))


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
    scored = evaluate_module(
        trained.module, data, config, load_evaluators(config, data.prepared), out
    )
    write_json(out / "evaluation.json", scored)
    return [Metric(**metric) for metric in scored["metrics"]]


def load_evaluators(config: EvaluationConfig, data: PreparedData) -> Evaluators:
    """The networks that a configuration names.

    Raises:
        ValueError: a name that is none, or weights that are not at hand.
    """
    extractors, clips = [], []
    for name in config.extractors:
        kind, _, weights = name.partition(":")
        if kind == "inception":
            extractors.append(inception(weights or None))
        elif name == "efficientnet_lite0":
            extractors.append(efficientnet_lite())
        else:
            clip = _scene_clip(data) if name == "scene_clip" else _open_clip(name)
            clips.append(clip)
            extractors.append(clip_features(clip))
    return Evaluators(tuple(extractors), tuple(clips))


def _open_clip(name: str) -> ClipModel:
    if name.startswith(("hf-hub:", "local-dir:")):  # such names carry their weights
        return load_open_clip(name, None)
    model, _, pretrained = name.partition("/")
    return load_open_clip(model, pretrained or None)


def _scene_clip(data: PreparedData) -> ClipModel:
    def pairs(split: str, first: int, count: int) -> tuple[np.ndarray, list[str]]:
        captions = [caption_of(data, split, first + i) for i in range(count)]
        return data.pictures(split, first, count), captions

    scenes = data.config.scenes
    return load_scene_clip(
        SceneClipConfig(),
        scenes.canvas,
        data.texts.vocab_size,
        data.texts.encode,
        lambda first, count: pairs("train", first, count),
        lambda first, count: pairs("test", first, count),
        key=[asdict(scenes), asdict(data.config.text), data.config.seed],
    )


def caption_of(data: PreparedData, split: str, scene: int) -> str:
    """The caption of a scene that is used as its prompt: another wording from scene to scene."""
    captions = data.source.captions(data.source.scene(split, data.config.seed, scene))
    return captions[scene % len(captions)]


def evaluate_module(
    module: MultimodalModule,
    data: MultimodalDataModule,
    config: EvaluationConfig,
    evaluators: Evaluators,
    folder: Path,
) -> dict[str, Any]:
    """Metrics and samples of one trained module.

    Args:
        module: with the weights to be judged, in evaluation mode.
        data: whose held-out splits it is judged on.
        config: how many pictures and captions.
        evaluators: the networks to use.
        folder: where ``samples/`` is written.
    """
    metrics = [metric for split in LOSS_SPLITS for metric in held_out_losses(module, data, split)]
    prepared = data.prepared
    scenes = [prepared.source.scene("test", data.config.seed, i) for i in range(config.images)]
    prompts = [caption_of(prepared, "test", i) for i in range(config.images)]
    references = [prepared.source.captions(scene) for scene in scenes]
    real_NHWC = prepared.pictures("test", 0, config.images)
    samples: list[dict[str, Any]] = [
        {"prompt": prompts[i], "references": references[i]} for i in range(config.shown)
    ]
    for i, sample in enumerate(samples):
        sample["reference"] = _save(real_NHWC[i], folder, f"samples/{i}_real.png")
    if reason := why_not(module.net):
        return {
            "metrics": [*_dicts(metrics), *_dicts(_unavailable(evaluators, reason))],
            "samples": samples,
        }

    tokens = [np.array(prepared.texts.encode(prompt)) for prompt in prompts]
    latents_NCHW = generate_images(
        module.net, tokens, prepared.layout, PROMPT_SEED, config.sample_steps
    )
    generated_NHWC = prepared.images.decode(latents_NCHW)
    # Frechet distances are taken to other real pictures of the same split.
    reference_MHWC = prepared.pictures("test", config.images, config.images)
    metrics += score_images(
        generated_NHWC, prompts, real_NHWC, reference_MHWC, evaluators, scenes, prepared.source
    )
    pool = prepared.pool("test")
    clean_NCHW = torch.from_numpy(np.array(pool.latents_NCHW[: config.images]))
    ids = generate_captions(module.net, clean_NCHW, prepared.layout, pool.longest_caption + 1)
    captions = [prepared.texts.decode(each) for each in ids]
    metrics += score_captions(captions, references)
    for i, sample in enumerate(samples):
        sample["generated"] = _save(generated_NHWC[i], folder, f"samples/{i}.png")
        sample["caption"] = captions[i]
    return {"metrics": _dicts(metrics), "samples": samples}


@torch.no_grad()
def held_out_losses(
    module: MultimodalModule, data: MultimodalDataModule, split: str
) -> list[Metric]:
    """Perplexity and diffusion loss on a held-out split, with noise fixed per picture.

    Under expert choice this is the training routing, which sees other tokens: the note says so.
    """
    where = LOSS_SPLITS[split]
    leaking = "; training routing, which sees later tokens" if why_not(module.net) else ""
    nll: list[float] = []
    counts: list[int] = []
    image: list[float] = []
    for batch in data.held_out_loader(split):
        batch = batch.to(module.device)
        output = module.net(batch)
        nll_L = F.cross_entropy(output.logits_LV.float(), batch.target_L, reduction="none")
        row_L = batch.target_place_L // batch.token_BS.shape[1]
        rows = batch.token_BS.shape[0]
        nll += torch.bincount(row_L, nll_L.double(), minlength=rows).tolist()
        counts += torch.bincount(row_L, minlength=rows).tolist()
        losses_N = module.net.image.image_losses(
            output.prediction_NCHW, batch.latents_NCHW, batch.noise_NCHW
        )
        image += losses_N.double().tolist()
    vocabulary = data.prepared.texts.vocab_size
    text = perplexity(
        nll,
        counts,
        f"BPE of {vocabulary} tokens, captions and prose{leaking}",
        f"perplexity ({where})",
        floor=_unigram_floor(data, split),
    )
    low, high = mean_interval(np.array(image))
    diffusion = Metric(
        f"diffusion loss ({where})",
        float(np.mean(image)),
        low,
        high,
        len(image),
        f"error of the {module.config.diffusion.objective} target, noise fixed{leaking}",
        None,
        None,
        "n counts pictures; lower is better",
    )
    return [text, diffusion]


def _unigram_floor(data: MultimodalDataModule, split: str) -> float:
    training = torch.cat([batch.target_L for batch in data.train_loader(20)]).numpy()
    held_out = torch.cat([batch.target_L for batch in data.held_out_loader(split)]).numpy()
    return unigram_perplexity(training, held_out, data.prepared.texts.vocab_size)


def _unavailable(evaluators: Evaluators, reason: str) -> list[Metric]:
    named = [(each.distance, each.name) for each in evaluators.extractors]
    named += [("CLIP score", each.name) for each in evaluators.clips]
    named += [(f"{what} right", "exact scene checker") for what in ("objects", "ground", "scenes")]
    named.append(("CIDEr", "pycocoevalcap CIDEr"))
    return [not_available(name, extractor, reason) for name, extractor in named]


def _dicts(metrics: list[Metric]) -> list[dict[str, Any]]:
    return [asdict(metric) for metric in metrics]


def _save(image_HWC: np.ndarray, folder: Path, name: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_HWC).save(path)
    return name
