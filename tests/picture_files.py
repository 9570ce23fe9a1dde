"""Small picture files of every kind, and a fixed network to look at them with."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from benchmarks.fixed_network import FixedNetwork, encoder
from evaluation.metrics.extractors import FeatureExtractor


def blobs(count: int, seed: int, size: int = 16, tint: int = 0) -> np.ndarray:
    """Smooth coloured pictures, uint8 [count, size, size, 3]."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (count, 4, 4, 3), dtype=np.uint8)
    coarse[..., 0] += np.uint8(tint)
    made = [Image.fromarray(each).resize((size, size), Image.Resampling.BICUBIC) for each in coarse]
    return np.stack([np.asarray(each) for each in made])


def save_all(pictures: np.ndarray, folder: Path, name: str = "{:04}.png") -> Path:
    """One file per picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / name.format(place))
    return folder


def fixed_extractor(network: nn.Module | None = None) -> FeatureExtractor:
    """The same network as one of ours."""
    network = network or FixedNetwork("fixed", ["fixed"])
    return FeatureExtractor("fixed network", "Frechet distance (fixed)", encoder(network))
