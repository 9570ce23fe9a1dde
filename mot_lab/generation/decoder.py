"""A model that reads documents piece by piece, each place once (`mot_lab.backbones.cache`).

Shapes: B rows, R rows of a step, W places of each, D width, V vocabulary, N pictures, P patches of
each, C x H x W latents.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mot_lab.backbones.cache import KVCache
from mot_lab.batch import PADDING
from mot_lab.data.packing import Layout
from mot_lab.generation.prompts import Piece
from mot_lab.model import MultimodalModel

Predict = Callable[[Tensor, Tensor], Tensor]


class Decoder:
    """One document per row, read as far as it was fed.

    Args:
        model: of any arm.
        layout: of the documents.
        rows: B.
    """

    def __init__(self, model: MultimodalModel, layout: Layout, rows: int) -> None:
        self.model = model
        self.layout = layout
        self.cache = KVCache(model.transformer, rows)
        self.length = np.zeros(rows, np.int64)
        self._weight = model.autoregressive.output.weight

    def restart(self, row: int) -> None:
        """Begin another document in a row; what stood there is never seen again."""
        self.length[row] = 0

    @torch.no_grad()
    def feed(self, pieces: Mapping[int, Piece]) -> Tensor:
        """Go on with some rows, by pieces of any lengths.

        Returns:
            next-token logits [R, V] after the last place of each piece, in the mapping's order.
        """
        rows, parts = list(pieces), list(pieces.values())
        size_R = np.array([len(piece.token_S) for piece in parts])
        real_RW = np.arange(size_R.max()) < size_R[:, None]

        def laid_out(arrays: list[np.ndarray]) -> np.ndarray:
            """One array per row -> [R, W], ``PADDING`` behind each."""
            flat = np.concatenate(arrays)
            if len(flat) == real_RW.size:
                return flat.reshape(real_RW.shape)
            laid_RW = np.full(real_RW.shape, PADDING)
            laid_RW[real_RW] = flat
            return laid_RW

        start_R1 = self.length[rows][:, None]
        step = self.cache.step(
            rows,
            laid_out([piece.modality_S for piece in parts]),
            start_R1 + np.arange(real_RW.shape[1]),
            start_R1 + laid_out([piece.last_seen() for piece in parts]),
        )
        self.length[rows] += size_R
        token_RW = laid_out([piece.token_S for piece in parts]).clip(0)
        x_ND = self.model.autoregressive.embed(self._tensor(token_RW).flatten())
        pictures = [latents_CHW for piece in parts for latents_CHW in piece.latents]
        if pictures:
            image_RW = laid_out([piece.image_S for piece in parts])
            x_ND = self._place_pictures(x_ND, image_RW, pictures)
        hidden_ND = self.cache.run(step, x_ND)
        place_R = np.arange(len(rows)) * real_RW.shape[1] + size_R - 1
        return self.model.autoregressive.logits(hidden_ND[self._tensor(place_R)])

    def denoiser(self, rows: Sequence[int]) -> Predict:
        """A picture at the end of each row, to be denoised: (noised latents [R, C, H, W], time [R])
        -> prediction. It sees the row and itself; the row stays as long as it was.
        """
        head, block = self.model.diffusion, self.layout.blocks[self.layout.diffused or ""]
        assert head is not None and block.length is not None
        position_RW = self.length[list(rows)][:, None] + np.arange(block.length)
        modality_RW = np.full_like(position_RW, block.modality_id)
        last_RW = np.broadcast_to(position_RW[:, -1:], position_RW.shape)
        step = self.cache.step(rows, modality_RW, position_RW, last_RW)

        @torch.no_grad()
        def predict(x_NCHW: Tensor, time_N: Tensor) -> Tensor:
            patches_NPD, kept = head.codec.encode(x_NCHW.to(self._weight.dtype), time_N)
            hidden_ND = self.cache.run(step, patches_NPD.flatten(0, 1))
            return head.codec.decode(hidden_ND.view_as(patches_NPD), time_N, kept)

        return predict

    def _place_pictures(
        self, x_ND: Tensor, image_RW: np.ndarray, pictures: list[np.ndarray]
    ) -> Tensor:
        assert self.model.diffusion is not None, "pictures of codes have no latents"
        latents_NCHW = self._tensor(np.stack(pictures)).to(self._weight.dtype)
        clean_N = torch.zeros(len(pictures), device=latents_NCHW.device)
        patches_NPD, _ = self.model.diffusion.codec.encode(latents_NCHW, clean_N)
        place_M = self._tensor(np.flatnonzero(image_RW != PADDING))
        return x_ND.index_copy(0, place_M, patches_NPD.flatten(0, 1))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._weight.device)
