"""CLIP score: how well pictures fit their captions, by any open_clip model.

The figure is 100 x cosine, averaged over the pairs and cut at 0: torchmetrics' convention. (The
CLIPScore of Hessel et al. is 2.5 x cosine, cut pair by pair.)

Tensor legend: N pairs, H W size of a picture, C = 3, F features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric
from evaluation.metrics.shuffle import derangement
from mot_lab.parsing import brief

BATCH = 64


@dataclass(frozen=True)
class ClipModel:
    """A named CLIP model, reduced to its two encoders.

    Attributes:
        name: the model, its weights and what is known of its quality, printed beside every figure.
        short_name: the model alone, for the names of metrics.
        encode_images: pictures uint8 [N, H, W, C] to features [N, F], any length.
        encode_texts: N captions to features [N, F], any length.
    """

    name: str
    short_name: str
    encode_images: Callable[[np.ndarray], Tensor]
    encode_texts: Callable[[Sequence[str]], Tensor]


def load_open_clip(model: str, pretrained: str | None, device: str = "cpu") -> ClipModel:
    """Any model of open_clip, with its own preprocessing and tokenizer.

    Args:
        model: a name that open_clip knows ("ViT-B-32"), "hf-hub:org/name" or "local-dir:/path".
        pretrained: a pretrained tag of that model ("laion2b_s34b_b79k") or the path of a
            checkpoint; None for the two kinds of name that carry their weights.

    Raises:
        ValueError: open_clip does not know the model or the tag, or the weights cannot be had.
    """
    carries_weights = model.startswith(("hf-hub:", "local-dir:"))
    if not carries_weights and model not in open_clip.list_models():
        raise ValueError(f"open_clip knows no model {model!r}; open_clip.list_models() lists them")
    if not carries_weights and pretrained is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(
            f"{model} needs weights: give a pretrained tag ({tags}) or the path of a checkpoint"
        )
    try:
        # The one of its makers that refuses a model whose weights it does not find.
        network, preprocess = open_clip.create_model_from_pretrained(
            model, pretrained=pretrained, device=device
        )
        tokenizer = open_clip.get_tokenizer(model)
    except UnpicklingError as error:
        raise ValueError(
            f"the weights {pretrained!r} of {model} are a pickle that holds more than plain tensors"
        ) from error
    except (RuntimeError, OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        what = model if carries_weights else f"{model} with weights {pretrained!r}"
        raise ValueError(
            f"open_clip could not load {what} ({brief(error)}): give a tag that it lists and can "
            "fetch, the path of a checkpoint of this model, or a folder or hub repository with "
            "open_clip_config.json and weights"
        ) from error
    network.eval()

    @torch.inference_mode()
    def encode_images(images_NHWC: np.ndarray) -> Tensor:
        require_pictures(images_NHWC)
        pixels = [preprocess(Image.fromarray(image)) for image in images_NHWC]
        return network.encode_image(torch.stack(pixels).to(device))

    @torch.inference_mode()
    def encode_texts(captions: Sequence[str]) -> Tensor:
        return network.encode_text(tokenizer(list(captions)).to(device))

    weights = "" if pretrained is None else f" ({Path(pretrained).name})"
    return ClipModel(
        f"open_clip {model}{weights}", f"{model}{weights}", encode_images, encode_texts
    )


def cosines(clip: ClipModel, images_NHWC: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Cosine between each picture and its own caption, float64 [N], in [-1, 1]."""
    if len(images_NHWC) != len(captions):
        raise ValueError(f"{len(images_NHWC)} pictures and {len(captions)} captions; give one each")
    return _cosines(_image_features(clip, images_NHWC), _text_features(clip, captions))


def clip_score(
    clip: ClipModel,
    images_NHWC: np.ndarray,
    captions: Sequence[str],
    real_NHWC: np.ndarray | None = None,
    seed: int = 0,
) -> Metric:
    """The CLIP score of pictures against the captions they were made from.

    Args:
        images_NHWC: uint8, the pictures.
        captions: one per picture.
        real_NHWC: the real picture of each caption. The ceiling is their score, the floor their
            score with the captions shuffled. Without it there is neither.
        seed: of the shuffle and of the interval over pairs.
    """
    cosine_N = cosines(clip, images_NHWC, captions)
    ceiling = floor = None
    if real_NHWC is not None:
        image_NF, text_NF = _image_features(clip, real_NHWC), _text_features(clip, captions)
        others_NF = text_NF[derangement(len(captions), seed)]
        ceiling = score_of(_cosines(image_NF, text_NF))
        floor = score_of(_cosines(image_NF, others_NF))
    return clip_metric(clip, cosine_N, ceiling, floor, seed=seed)


def clip_metric(
    clip: ClipModel,
    cosine_N: np.ndarray,
    ceiling: float | None,
    floor: float | None,
    note: str = "",
    seed: int = 0,
) -> Metric:
    """The CLIP score of pairs whose cosines are known."""
    return Metric.sampled(
        name="CLIP score",
        value=score_of(cosine_N),
        draws=np.maximum(100 * mean_draws(cosine_N, seed=seed), 0.0),
        n=len(cosine_N),
        extractor=clip.name,
        ceiling=ceiling,
        floor=floor,
        note=f"100 x cosine, mean cut at 0; higher is better{note}",
    )


def score_of(cosine_N: np.ndarray) -> float:
    """100 x the mean cosine, cut at 0."""
    return max(100 * float(cosine_N.mean()), 0.0)


def require_pictures(images_NHWC: np.ndarray) -> None:
    """Raises ValueError unless the array is uint8 [N, H, W, 3] with N above 0."""
    if images_NHWC.dtype != np.uint8 or images_NHWC.ndim != 4 or images_NHWC.shape[3] != 3:
        raise ValueError(
            f"pictures must be uint8 [N, height, width, 3], not {images_NHWC.dtype} "
            f"{list(images_NHWC.shape)}"
        )
    if not len(images_NHWC):
        raise ValueError("there are no pictures to look at")


def to_NCHW(images_NHWC: np.ndarray) -> Tensor:
    """Checked pictures as a uint8 tensor [N, C, H, W]."""
    require_pictures(images_NHWC)
    return torch.from_numpy(np.ascontiguousarray(images_NHWC.transpose(0, 3, 1, 2)))


def _cosines(image_NF: Tensor, text_NF: Tensor) -> np.ndarray:
    return (image_NF * text_NF).sum(dim=1).numpy()


def _image_features(clip: ClipModel, images_NHWC: np.ndarray) -> Tensor:
    """Float64 on the host, unit length."""
    starts = range(0, len(images_NHWC), BATCH)
    parts = [clip.encode_images(images_NHWC[start : start + BATCH]) for start in starts]
    return F.normalize(torch.cat(parts).double().cpu(), dim=1)


def _text_features(clip: ClipModel, captions: Sequence[str]) -> Tensor:
    starts = range(0, len(captions), BATCH)
    parts = [clip.encode_texts(captions[start : start + BATCH]) for start in starts]
    return F.normalize(torch.cat(parts).double().cpu(), dim=1)
