"""What evaluation asks of a model: pictures from captions, captions from pictures, texts.

Shapes: N prompts, C x H x W latents, P codes of a picture.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mot_lab.data.documents import CodeSegment, ImageSegment, Segment, TextSegment, picture_segment
from mot_lab.data.interface import TEXT
from mot_lab.data.packing import Layout
from mot_lab.generation.generate import generate
from mot_lab.generation.prompts import Prompt
from mot_lab.generation.sampling import Sampling
from mot_lab.model import MultimodalModel

IMAGE = "image"


def generate_images(
    model: MultimodalModel,
    prompts: Sequence[np.ndarray],
    layout: Layout,
    seed: int,
    steps: int | None = None,
    label: str = "",
) -> Tensor:
    """A picture for each caption, without guidance (as the paper's metrics are); codes are drawn at
    temperature 1.

    Args:
        model: of any arm; one with experts needs its causal routers.
        prompts: N token arrays, captions without special tokens.
        layout: of documents.
        seed: what prompt i becomes is a function of (seed, i).
        steps: denoising steps, by default the model's.
        label: shown by the progress bar; none without it.

    Returns:
        float32 latents [N, C, H, W], or int64 codes [N, P] where pictures are discrete.
    """
    asked = [Prompt((TextSegment(ids),), IMAGE) for ids in prompts]
    sampling = Sampling(temperature=1.0, steps=steps, seed=seed)
    pictures = [picture for (picture,) in generate(model, layout, asked, sampling, label)]
    return torch.stack([torch.from_numpy(_encoded(picture)) for picture in pictures])


def _encoded(picture: Segment) -> np.ndarray:
    if isinstance(picture, ImageSegment):
        return picture.latents_CHW.astype(np.float32)
    assert isinstance(picture, CodeSegment)
    return picture.codes


def generate_captions(
    model: MultimodalModel, pictures: Tensor, layout: Layout, max_tokens: int, label: str = ""
) -> list[list[int]]:
    """Token ids of captions, greedily, for latents [N, C, H, W] or codes [N, P]."""
    prompts = [(picture_segment(IMAGE, encoded),) for encoded in pictures.numpy()]
    return generate_texts(model, prompts, layout, max_tokens, label)


def generate_texts(
    model: MultimodalModel,
    prompts: Sequence[tuple[Segment, ...]],
    layout: Layout,
    max_tokens: int,
    label: str = "",
) -> list[list[int]]:
    """Token ids of the likeliest text that follows each prompt, up to the end of its document."""
    asked = [Prompt(segments, TEXT) for segments in prompts]
    answers = generate(model, layout, asked, Sampling(max_tokens=max_tokens), label)
    return [
        [int(token) for text in answer if isinstance(text, TextSegment) for token in text.ids]
        for answer in answers
    ]
