"""Further picture modalities: the same scenes, rendered in another style.

Shapes: N pictures of H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mot_lab.limits import require_share
from mot_lab.tokens.image import ImageTokenizerConfig

Rendering = Literal["grey", "negative"]


@dataclass
class StyleConfig:
    """One further picture modality.

    Attributes:
        rendering: ``grey`` (luma of ITU-R BT.601) or ``negative`` (255 minus each colour).
        image: its tokenizer.
        share: of the drawn documents without speech or an earlier style, those that show a scene
            as a picture and in this style.
    """

    rendering: Rendering = "grey"
    image: ImageTokenizerConfig = field(default_factory=lambda: ImageTokenizerConfig(kind="vq"))
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.rendering not in RENDERINGS:
            raise ValueError(f"rendering {self.rendering!r} is none of {', '.join(RENDERINGS)}")
        require_share(self, "share")


def _grey(images_NHWC: np.ndarray) -> np.ndarray:
    luma_NHW = images_NHWC @ np.array([0.299, 0.587, 0.114])
    return np.repeat(luma_NHW.round().astype(np.uint8)[..., None], 3, axis=-1)


def _negative(images_NHWC: np.ndarray) -> np.ndarray:
    return 255 - images_NHWC


RENDERINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"grey": _grey, "negative": _negative}
"""uint8 [N, H, W, 3] -> the same, in another style."""
