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
        self.length = [0] * rows
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
        sizes = [len(piece.token_S) for piece in pieces.values()]
        token_RW, modality_RW, position_RW, last_RW = np.zeros(
            (4, len(sizes), max(sizes)), np.int64
        )
        modality_RW[:] = PADDING
        image_RW = np.full(token_RW.shape, PADDING)
        latents: list[np.ndarray] = []
        for i, (row, piece) in enumerate(pieces.items()):
            places, start = slice(0, sizes[i]), self.length[row]
            token_RW[i, places] = piece.token_S
            modality_RW[i, places] = piece.modality_S
            image_RW[i, places] = piece.image_S
            position_RW[i, places] = start + np.arange(sizes[i])
            last_RW[i, places] = start + piece.last_seen()
            latents += piece.latents
            self.length[row] += sizes[i]
        step = self.cache.step(
            list(pieces), *map(torch.from_numpy, (modality_RW, position_RW, last_RW))
        )
        x_ND = self._embed(token_RW, image_RW, latents)
        hidden_ND = self.cache.run(step, x_ND)
        place_R = np.arange(len(sizes)) * token_RW.shape[1] + np.array(sizes) - 1
        return self.model.autoregressive.logits(hidden_ND[self._tensor(place_R)])

    def denoiser(self, rows: Sequence[int]) -> Predict:
        """A picture at the end of each row, to be denoised: (noised latents [R, C, H, W], time [R])
        -> prediction. It sees the row and itself; the row stays as long as it was.
        """
        head, block = self.model.diffusion, self.layout.blocks[self.layout.diffused or ""]
        assert head is not None and block.length is not None
        first_RW = torch.tensor([self.length[row] for row in rows])[:, None]
        position_RW = first_RW + torch.arange(block.length)
        modality_RW = torch.full_like(position_RW, block.modality_id)
        last_RW = position_RW[:, -1:].expand_as(position_RW)
        step = self.cache.step(rows, modality_RW, position_RW, last_RW)

        @torch.no_grad()
        def predict(x_NCHW: Tensor, time_N: Tensor) -> Tensor:
            patches_NPD, kept = head.codec.encode(x_NCHW.to(self._weight.dtype), time_N)
            hidden_ND = self.cache.run(step, patches_NPD.flatten(0, 1))
            return head.codec.decode(hidden_ND.view_as(patches_NPD), time_N, kept)

        return predict

    def _embed(
        self, token_RW: np.ndarray, image_RW: np.ndarray, latents: list[np.ndarray]
    ) -> Tensor:
        x_ND = self.model.autoregressive.embed(self._tensor(token_RW.reshape(-1)))
        if not latents:
            return x_ND
        assert self.model.diffusion is not None, "pictures of codes have no latents"
        latents_NCHW = self._tensor(np.stack(latents)).to(self._weight.dtype)
        clean_N = torch.zeros(len(latents), device=latents_NCHW.device)
        patches_NPD, _ = self.model.diffusion.codec.encode(latents_NCHW, clean_N)
        place_M = self._tensor(np.nonzero(image_RW.reshape(-1) != PADDING)[0])
        return x_ND.index_copy(0, place_M, patches_NPD.flatten(0, 1))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._weight.device)
