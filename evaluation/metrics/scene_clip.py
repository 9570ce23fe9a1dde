"""A small open_clip model trained on the scenes' training split, for where no weights are at hand.

It knows these scenes and nothing else: its figures compare arms of one study, never studies of
different data. How well it knows them (retrieval on held-out scenes) is part of its name.

Tensor legend: B pairs in a batch, H W C a picture, L tokens of a caption, E features.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from evaluation.metrics.clip_score import ClipModel
from evaluation.metrics.scene_clip_fit import (
    Encode,
    Pairs,
    SceneClipConfig,
    build_model,
    context_length,
    fit,
    numbered,
    to_pixels,
    to_tokens,
)
from mot_lab.runtime.cache import cached

FIT_VERSION = 1  # raised whenever the same arguments would give another model
LENGTH_SAMPLE = 2048  # training captions measured to size the text encoder
CANDIDATES = 64  # captions to choose from when retrieval is measured
DRAWN = 4 * CANDIDATES  # held-out pairs drawn for a set of CANDIDATES different pictures
RETRIEVAL_ROUNDS = 8  # sets


def load_scene_clip(
    config: SceneClipConfig,
    canvas: int,
    vocab_size: int,
    encode: Encode,
    training: Pairs,
    held_out: Pairs,
    key: Any,
    device: str = "cpu",
) -> ClipModel:
    """The embedded CLIP model, trained on the first call and read from the cache after that.

    Args:
        canvas: side of the pictures in pixels.
        vocab_size, encode: the text tokenizer, caption to token ids below ``vocab_size``.
        training: pairs of the training split.
        held_out: pairs of the test split, for the retrieval accuracy that the model is named with.
        key: what determines the pairs and the tokenizer (JSON or dataclasses), for the cache.

    Raises:
        ValueError: pictures of another size, or a caption a quarter longer than any of the first
            ``LENGTH_SAMPLE`` training captions.
    """
    if canvas % config.patch:
        raise ValueError(f"canvas {canvas} is no multiple of the patch {config.patch}")

    def build(folder: Path) -> None:
        started = time.perf_counter()
        context = context_length(training(0, LENGTH_SAMPLE)[1], encode)
        model = build_model(config, canvas, vocab_size, context).to(device)
        fit(model, config, canvas, encode, training)
        seconds = time.perf_counter() - started
        share, candidates = retrieval(_as_clip(model, encode, canvas, "", ""), held_out)
        card = {
            "config": asdict(config),
            "context": context,
            "parameters": sum(weight.numel() for weight in model.parameters()),
            "pairs_seen": config.batch * config.steps,
            "fit_seconds": round(seconds, 1),
            "retrieval_top1": share,
            "retrieval_candidates": candidates,
            "retrieval_pictures": candidates * RETRIEVAL_ROUNDS,
        }
        save_file(model.state_dict(), folder / "model.safetensors")
        (folder / "card.json").write_text(json.dumps(card, indent=1))

    determinants = {
        "version": FIT_VERSION,
        "config": config,
        "canvas": canvas,
        "vocab_size": vocab_size,
        "data": key,
    }
    folder = cached("scene-clip", determinants, build)
    card = json.loads((folder / "card.json").read_text())
    model = build_model(config, canvas, vocab_size, card["context"]).to(device).eval()
    model.load_state_dict(load_file(folder / "model.safetensors", device=device))
    share, candidates = 100 * card["retrieval_top1"], card["retrieval_candidates"]
    name = (
        "scene-clip (small open_clip model trained on the scenes; finds the caption of "
        f"{share:.1f}% of held-out scenes among {candidates})"
    )
    return _as_clip(model, encode, canvas, name, "scene-clip")


def retrieval(clip: ClipModel, pairs: Pairs) -> tuple[float, int]:
    """Share of pictures whose own caption is the nearest, and among how many captions.

    Measured on ``RETRIEVAL_ROUNDS`` sets. A set holds no picture twice: held-out scenes repeat, and
    another wording of the same scene is no wrong answer. There are ``CANDIDATES`` captions to
    choose from, or fewer where the held-out scenes are few.

    Raises:
        ValueError: all held-out pictures are the same.
    """
    sets = [_different(*pairs(turn * DRAWN, DRAWN)) for turn in range(RETRIEVAL_ROUNDS)]
    candidates = min(CANDIDATES, *(len(captions) for _, captions in sets))
    if candidates < 2:
        raise ValueError(f"the first {DRAWN} held-out pictures are all the same: nothing to find")
    found = 0
    for images_BHWC, captions in sets:
        image_BE = F.normalize(clip.encode_images(images_BHWC[:candidates]), dim=1)
        text_BE = F.normalize(clip.encode_texts(captions[:candidates]), dim=1)
        nearest = (image_BE @ text_BE.T).argmax(dim=1).cpu()
        found += int((nearest == torch.arange(candidates)).sum())
    return found / (candidates * RETRIEVAL_ROUNDS), candidates


def _different(images_BHWC: np.ndarray, captions: list[str]) -> tuple[np.ndarray, list[str]]:
    """The pairs whose picture has not occurred before."""
    numbers = numbered([image.tobytes() for image in images_BHWC])
    chosen = np.unique(numbers, return_index=True)[1]
    return images_BHWC[chosen], [captions[place] for place in chosen]


def _as_clip(
    model: CLIP,
    encode: Encode,
    canvas: int,
    name: str,
    short_name: str,
) -> ClipModel:
    device = model.logit_scale.device

    @torch.inference_mode()
    def encode_images(images_BHWC: np.ndarray) -> Tensor:
        return model.encode_image(to_pixels(images_BHWC, canvas).to(device))

    @torch.inference_mode()
    def encode_texts(captions: Sequence[str]) -> Tensor:
        return model.encode_text(to_tokens(captions, encode, model).to(device))

    return ClipModel(name, short_name, encode_images, encode_texts)
