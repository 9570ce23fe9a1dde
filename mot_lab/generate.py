"""Pictures from captions and captions from pictures, by a trained model of any arm.

Experts are routed causally: training routing looks at later tokens and at other prompts. Every step
recomputes the whole row: no cache yet. Deterministic for a seed.

Shapes: N prompts, C x H x W latents, V vocabulary, K places.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mot_lab.backbones.transformer import NO_CAUSAL_ROUTING
from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import Document, ImageSegment, Segment, TextSegment
from mot_lab.data.packing import Layout, Row, collate
from mot_lab.model import MultimodalModel

GENERATE_BATCH = 64


def why_not(model: MultimodalModel) -> str | None:
    """The reason why a model cannot generate, or None where it can."""
    return None if model.transformer.can_route_causally() else NO_CAUSAL_ROUTING


def _batch(
    documents: Sequence[Document], layout: Layout, shape: tuple[int, ...]
) -> MultimodalBatch:
    """One document per row, none with an end; rows as long as the longest needs."""
    rows = []
    length = max(layout.size(document) for document in documents)
    for document in documents:
        row = Row.empty(length)
        row.add(document, layout)
        row.noise = [np.zeros_like(latents) for latents in row.latents]
        row.time = [0.0] * len(row.latents)
        rows.append(row)
    channels, height, width = shape
    return collate(rows, 0, (channels, height, width))


@torch.no_grad()
def generate_images(
    model: MultimodalModel,
    prompts: Sequence[np.ndarray],
    layout: Layout,
    seed: int,
    steps: int | None = None,
    label: str = "",
) -> Tensor:
    """Latents of a picture for each prompt, sampled without guidance (as the paper's metrics are).

    Args:
        model: of any arm; one with experts needs its causal routers.
        prompts: N token arrays, captions without special tokens.
        layout: of documents.
        seed: of the noise; what prompt i starts from is a function of (seed, i).
        steps: denoising steps, by default the model's.
        label: shown by the progress bar; none without it.

    Returns:
        float32 [N, C, H, W].

    Raises:
        ValueError: the model has experts and no causal routers.
    """
    device = next(model.parameters()).device
    shape = model.image.latent_shape
    picture = ImageSegment(np.zeros(shape, np.float32))
    starts = range(0, len(prompts), GENERATE_BATCH)
    latents = []
    for start in track(starts, description=label, disable=not label):
        chunk = prompts[start : start + GENERATE_BATCH]
        documents = [Document((TextSegment(ids), picture), cut=True) for ids in chunk]
        batch = _batch(documents, layout, shape).to(device)

        def predict(x_NCHW: Tensor, time_N: Tensor, batch: MultimodalBatch = batch) -> Tensor:
            with model.transformer.routing("causal"):
                return model.denoise(replace(batch, time_N=time_N), x_NCHW)

        noise = [_noise(shape, seed, start + i) for i in range(len(chunk))]
        generator = torch.Generator().manual_seed(seed + start)
        sampled = model.image.sample(predict, torch.stack(noise).to(device), generator, steps)
        latents.append(sampled.float().cpu())
    return torch.cat(latents)


def _noise(shape: tuple[int, int, int], seed: int, index: int) -> Tensor:
    rng = np.random.default_rng((seed, index))
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


@torch.no_grad()
def generate_text(
    model: MultimodalModel,
    prompts: Sequence[tuple[Segment, ...]],
    layout: Layout,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """Token ids that follow each prompt, up to the end of its document.

    Args:
        model: of any arm; one with experts needs its causal routers.
        prompts: segments in reading order; pictures are read clean, at noise level 0.
        layout: of documents.
        max_tokens: at most this many for each prompt.
        temperature: 0 takes the likeliest token (as Transfusion does), else tokens are drawn.
        seed: of the drawing.

    Raises:
        ValueError: the model has experts and no causal routers.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    answers: list[list[int]] = [[] for _ in prompts]
    open_prompts = list(range(len(prompts)))
    for _ in range(max_tokens):
        if not open_prompts:
            break
        documents = [
            Document((*prompts[i], TextSegment(np.array(answers[i], np.int64))), cut=True)
            for i in open_prompts
        ]
        batch = _batch(documents, layout, model.image.latent_shape).to(device)
        length = batch.token_BS.shape[1]
        last = [i * length + layout.size(document) - 1 for i, document in enumerate(documents)]
        with model.transformer.routing("causal"):
            logits_KV = model.logits_at(batch, torch.tensor(last, device=device)).float().cpu()
        # Only text may follow: no second start, no picture inside a caption, no padding.
        logits_KV[:, [layout.pad, layout.bos, layout.boi, layout.eoi]] = -torch.inf
        if temperature:
            weights_KV = (logits_KV / temperature).softmax(dim=-1)
            token_K = torch.multinomial(weights_KV, 1, generator=generator)[:, 0]
        else:
            token_K = logits_KV.argmax(dim=-1)
        for i, token in zip(open_prompts, token_K.tolist(), strict=True):
            answers[i].append(token)
        open_prompts = [i for i in open_prompts if answers[i][-1] != layout.eos]
    return [[token for token in answer if token != layout.eos] for answer in answers]


def generate_captions(
    model: MultimodalModel, latents_NCHW: Tensor, layout: Layout, max_tokens: int, label: str = ""
) -> list[list[int]]:
    """Captions of pictures given as latents [N, C, H, W], greedily."""
    captions: list[list[int]] = []
    starts = range(0, len(latents_NCHW), GENERATE_BATCH)
    for start in track(starts, description=label, disable=not label):
        chunk = latents_NCHW[start : start + GENERATE_BATCH].numpy()
        prompts = [(ImageSegment(latents_CHW),) for latents_CHW in chunk]
        captions += generate_text(model, prompts, layout, max_tokens)
    return captions
