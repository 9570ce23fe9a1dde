"""Discrete image tokens: pictures as codes of a codebook, and codes as pictures again.

Letters in tensor names: N pictures, H/W pixels, P codes of one picture, K codes there are.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models import VQModel
from torch import Tensor

from mot_lab.tokens.fitting import downsampling
from mot_lab.tokens.pictures import PictureCoder, cells_per_side
from mot_lab.tokens.pretrained import weights_hash
from mot_lab.tokens.vq_model import decode_codes, encode_codes


def codebook_usage(codes_NP: np.ndarray, size: int) -> dict[str, Any]:
    """How evenly codes are used; a collapsed codebook has few that are.

    Returns:
        ``used``: share of the ``size`` codes that occur; ``perplexity`` of their distribution, from
        1 (always the same) to ``size`` (all alike); ``n``: codes looked at.
    """
    share_K = np.bincount(codes_NP.ravel(), minlength=size) / codes_NP.size
    occurring = share_K[share_K > 0]
    entropy = -float(np.sum(occurring * np.log(occurring)))
    return {
        "used": len(occurring) / size,
        "perplexity": float(np.exp(entropy)),
        "n": codes_NP.size,
    }


class VQTokenizer(PictureCoder):
    """Pictures to codes and back, in batches and without gradients.

    Args:
        canvas: pixels of a side of every picture.
        codes: (codes there are, codes of one picture).
        fingerprint, origin: see :class:`PictureCoder`.

    Attributes:
        size: codes there are.
        length: codes of one picture.
        makes_pictures: whether it can decode; an encoder may come alone.
    """

    makes_pictures = True

    def __init__(self, canvas: int, codes: tuple[int, int], fingerprint: str, origin: str) -> None:
        super().__init__(canvas, fingerprint, origin)
        self.size, self.length = codes

    def encode(self, images_NHWC: np.ndarray) -> np.ndarray:
        """Codes of uint8 pictures [N, H, W, 3]: int32 [N, P], row by row from the upper left."""
        return self._encode_all(images_NHWC).numpy().astype(np.int32)

    def decode(self, codes_NP: np.ndarray) -> np.ndarray:
        """Pictures of codes [N, P]: uint8 [N, H, W, 3], clipped to what bytes hold.

        Raises:
            ValueError: codes of another shape or type, or outside the codebook; or the model that
                made them came without a decoder.
        """
        whole = np.issubdtype(codes_NP.dtype, np.integer)
        if not whole or codes_NP.shape[1:] != (self.length,) or not len(codes_NP):
            raise ValueError(
                f"codes are {codes_NP.dtype} {list(codes_NP.shape)}; "
                f"give whole numbers [N, {self.length}] with N > 0"
            )
        if codes_NP.min() < 0 or codes_NP.max() >= self.size:
            raise ValueError(
                f"codes lie between {codes_NP.min()} and {codes_NP.max()}; "
                f"the codebook has 0 to {self.size - 1}"
            )
        return self._decode_all(torch.from_numpy(codes_NP.astype(np.int64)))

    def require_decoder(self) -> None:
        """ValueError where the model came with its encoder alone."""
        if not self.makes_pictures:
            raise ValueError(
                f"{self.origin!r} holds Chameleon's VQ encoder alone, as transformers keeps it, "
                f"and makes no pictures: give a checkpoint with its 'decoder.' weights"
            )

    def usage(self, images_NHWC: np.ndarray) -> dict[str, Any]:
        """:func:`codebook_usage` of pictures."""
        return codebook_usage(self.encode(images_NHWC), self.size)


class DiffusersVQTokenizer(VQTokenizer):
    """Codes of a diffusers ``VQModel``, whose pictures are in [-1, 1].

    Args:
        model: moved nowhere, switched to inference.
        canvas: pixels of a side of every picture.
    """

    def __init__(self, model: VQModel, canvas: int) -> None:
        self.model = model.eval().requires_grad_(False)
        cells = cells_per_side(downsampling(model.config), canvas)
        super().__init__(
            canvas,
            (model.config["num_vq_embeddings"], cells**2),
            weights_hash(model.config, model),
            str(model.config["_name_or_path"]),
        )

    def save(self, folder: Path) -> None:
        """Write a folder that diffusers loads."""
        self.model.save_pretrained(folder)

    def _encode(self, pixels_NCHW: Tensor) -> Tensor:
        return encode_codes(self.model, pixels_NCHW.to(self.model.device))

    def _decode(self, encoded: Tensor) -> Tensor:
        return decode_codes(self.model, encoded.to(self.model.device))
