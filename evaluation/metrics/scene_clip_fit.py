"""The embedded CLIP model's network and its contrastive training.

Tensor legend: B pairs in a batch, H W C a picture, L tokens of a caption, E features.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from evaluation.metrics.clip_score import require_pictures, to_NCHW

# Pairs number first, first + 1, ...: pictures uint8 [count, H, W, 3] and a caption for each.
Pairs = Callable[[int, int], tuple[np.ndarray, list[str]]]
Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class SceneClipConfig:
    """The model and its training.

    Attributes:
        width, heads: of both transformers; width is divided among the heads.
        vision_layers, text_layers: depth of each.
        patch: side of a square patch, in pixels; the picture's side is a multiple of it.
        features: length E of a picture's and a caption's vector.
        batch, steps, learning_rate: AdamW with warm-up and cosine decay.
        noise: largest standard deviation of the pixel noise in training (pixels in [-1, 1]); each
            picture draws its own. Generated pictures are not as clean as real ones.
        seed: of the weights and the noise.
    """

    width: int = 96
    heads: int = 4
    vision_layers: int = 2
    text_layers: int = 2
    patch: int = 8
    features: int = 64
    batch: int = 64
    steps: int = 400
    learning_rate: float = 1e-3
    noise: float = 0.1
    seed: int = 0


def context_length(captions: Sequence[str], encode: Encode) -> int:
    """Tokens of the text encoder: a quarter more than the longest caption, and its end token."""
    return math.ceil(1.25 * max(len(encode(caption)) for caption in captions)) + 1


def build_model(config: SceneClipConfig, canvas: int, vocab_size: int, context: int) -> CLIP:
    """An untrained model whose vocabulary has two tokens more: end of caption, and filling."""
    vision = CLIPVisionCfg(
        layers=config.vision_layers,
        width=config.width,
        head_width=config.width // config.heads,
        patch_size=config.patch,
        image_size=canvas,
    )
    text = CLIPTextCfg(
        context_length=context,
        vocab_size=vocab_size + 2,
        width=config.width,
        heads=config.heads,
        layers=config.text_layers,
        pool_type="eos",
        eos_id=vocab_size,
        pad_id=vocab_size + 1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return CLIP(config.features, vision, text, output_dict=True)


def fit(
    model: CLIP,
    config: SceneClipConfig,
    canvas: int,
    encode: Encode,
    training: Pairs,
) -> None:
    """Trains the model in place, on fresh pairs at every step."""
    model.train()
    device = model.logit_scale.device
    noise = torch.Generator().manual_seed(config.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _learning_rate(step, config.steps)
    )
    for step in track(range(config.steps), description="Training the scene CLIP model"):
        images_BHWC, captions = training(step * config.batch, config.batch)
        pixels_BCHW = to_pixels(images_BHWC, canvas)
        spread = config.noise * torch.rand(len(captions), 1, 1, 1, generator=noise)
        pixels_BCHW += spread * torch.randn(pixels_BCHW.shape, generator=noise)
        tokens_BL = to_tokens(captions, encode, model)
        out = model(pixels_BCHW.to(device), tokens_BL.to(device))
        loss = contrastive_loss(out, same_scene(images_BHWC, captions).to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))  # as CLIP does, or training diverges
    model.eval()


def _learning_rate(step: int, steps: int) -> float:
    """Share of the largest rate: up over a tenth of the steps, then a cosine down to zero."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def same_scene(images_BHWC: np.ndarray, captions: Sequence[str]) -> Tensor:
    """Bool [B, B]: other pairs of the batch that show or say the same, which are no negatives."""
    pictures = numbered([image.tobytes() for image in images_BHWC])
    words = numbered(captions)
    same = (pictures[:, None] == pictures) | (words[:, None] == words)
    return torch.from_numpy(same & ~np.eye(len(same), dtype=bool))


def numbered(items: Sequence[Hashable]) -> np.ndarray:
    """Equal items get equal numbers, in the order in which they first occur."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(item, len(numbers)) for item in items])


def contrastive_loss(out: dict[str, Tensor], same_BB: Tensor) -> Tensor:
    logits_BB = out["logit_scale"] * out["image_features"] @ out["text_features"].T
    logits_BB = logits_BB.masked_fill(same_BB, float("-inf"))
    own = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, own) + F.cross_entropy(logits_BB.T, own)) / 2


def to_pixels(images_BHWC: np.ndarray, canvas: int) -> Tensor:
    require_pictures(images_BHWC)
    if images_BHWC.shape[1:3] != (canvas, canvas):
        raise ValueError(
            f"scene-clip was trained on {canvas} x {canvas} pictures, these are "
            f"{images_BHWC.shape[1]} x {images_BHWC.shape[2]}"
        )
    return to_NCHW(images_BHWC).float() / 127.5 - 1


def to_tokens(captions: Sequence[str], encode: Encode, model: CLIP) -> Tensor:
    """Int64 [B, L]: each caption, its end token, and filling."""
    context, end, filling = model.context_length, model.vocab_size - 2, model.vocab_size - 1
    tokens_BL = torch.full((len(captions), context), filling)
    for row_L, caption in zip(tokens_BL, captions, strict=True):
        ids = torch.tensor(encode(caption), dtype=torch.int64)
        if len(ids) >= context:
            raise ValueError(
                f"a caption of {len(ids)} tokens is too long for scene-clip, which was trained on "
                f"the scenes' own captions and reads up to {context - 1}: {caption!r}"
            )
        row_L[: len(ids)] = ids
        row_L[len(ids)] = end
    return tokens_BL
