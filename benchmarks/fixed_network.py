"""A small network with fixed random weights, the same for us and for torch-fidelity."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase


class FixedNetwork(FeatureExtractorBase):
    """A convolutional network as torch-fidelity registers them.

    Attributes:
        width: number of features.
    """

    width = 24

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            first, second = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(16, self.width, 3, 2, 1)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("fixed",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "fixed"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        raise NotImplementedError

    def forward(self, pictures_NCHW: Tensor) -> tuple[Tensor]:
        pixels = pictures_NCHW.to(self.layers[0].weight.dtype) / 127.5 - 1
        return (self.layers(pixels).mean(dim=(2, 3)),)


def encoder(network: nn.Module) -> Callable[[np.ndarray], Tensor]:
    """``network`` on uint8 [N, H, W, C]."""

    @torch.inference_mode()
    def encode(images_NHWC: np.ndarray) -> Tensor:
        return network(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2))[0]

    return encode
