"""Keys and values of what was computed already: a row goes on at the price of its new tokens alone.

Shapes: L layers, B rows, C columns, N = B * C places of the cache, H heads of keys and values, E
head width; of one step: R of the rows, S places of each, T of these that are no padding, in grouped
order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mot_lab.backbones.attending import Attended
from mot_lab.backbones.attention import AttentionContext, rotary_angles
from mot_lab.backbones.cell_stack import CellStack
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.transformer import Transformer

GROWTH = 64


@dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values [B, C, H, E], and the places that a step writes and reads.

    Attributes:
        place_T: ``row * C + column`` of the step's tokens, in grouped order.
        row_R: the rows that the step computes; None for all of them in order.
        columns: as many as the step's longest row has.
    """

    key_BCHE: Tensor
    value_BCHE: Tensor
    place_T: Tensor
    row_R: Tensor | None
    columns: int

    def extend(self, key_THE: Tensor, value_THE: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens' keys and values; all of their rows' come back, [R, H, C, E]."""
        return self._write(self.key_BCHE, key_THE), self._write(self.value_BCHE, value_THE)

    def _write(self, kept_BCHE: Tensor, new_THE: Tensor) -> Tensor:
        kept_BCHE.flatten(0, 1).index_copy_(0, self.place_T, new_THE.to(kept_BCHE.dtype))
        seen_BCHE = kept_BCHE[:, : self.columns]
        seen_RCHE = seen_BCHE if self.row_R is None else seen_BCHE.index_select(0, self.row_R)
        return seen_RCHE.transpose(1, 2)


@dataclass(frozen=True)
class CacheStep:
    """Places of some rows to be computed behind what is cached; it may be run more than once.

    Attributes:
        groups, context: of the places.
        layers: a `LayerCache` for each layer.
    """

    groups: TokenGroups
    context: AttentionContext
    layers: Sequence[LayerCache]


class KVCache:
    """Rows of one document each; a token's keys and values stand at the column of its position.

    What is computed again at a position replaces what stood there: while a picture is denoised,
    every step writes over the one before. A query sees the columns up to a last one: its own, or
    for a patch that of the last patch of its picture (the mask of `attention_mask`, one document
    per row). Nothing behind it is ever read, so rows may have any lengths.

    Args:
        transformer: whose layers are cached; its weights must not change while it is in use.
        rows: B.
    """

    def __init__(self, transformer: Transformer, rows: int) -> None:
        config, weight = transformer.config, next(transformer.parameters())
        _, kv_heads, head_width = config.head_shape
        self.transformer = transformer
        self.rows = rows
        self.key_LBCHE, self.value_LBCHE = weight.new_empty(
            2, config.layers, rows, 0, kv_heads, head_width
        )
        self._cos_sin_2C1E = weight.new_empty(2, 0, 1, head_width)
        self._stacks: dict[int, CellStack] = {}  # by cell

    def step(
        self,
        row_R: Sequence[int],
        modality_RS: np.ndarray,
        position_RS: np.ndarray,
        last_RS: np.ndarray,
    ) -> CacheStep:
        """Prepare to compute places of some rows.

        Args:
            row_R: rows, each at most once.
            modality_RS: int64 modality ids, -1 padding (never routed, never written, never seen).
            position_RS: int64 positions in the row's document; all before them must be cached or
                be among them.
            last_RS: int64 last positions that the places see.
        """
        last_RS = np.where(modality_RS >= 0, last_RS, 0)
        columns = int(last_RS.max()) + 1
        self._reserve(columns)
        device, wiring = self.key_LBCHE.device, self.transformer.wiring
        place_RS = np.array(row_R)[:, None] * self.key_LBCHE.shape[2] + position_RS
        of_step = torch.from_numpy(np.stack([modality_RS, place_RS, position_RS])).to(device)
        counts = {name: int((modality_RS == i).sum()) for i, name in enumerate(wiring.modalities)}
        groups = TokenGroups.build(of_step[0], counts, wiring, skip_absent=True)
        place_T, position_T = groups.group(of_step[1:].flatten(1).t()).unbind(1)
        cos_T1E, sin_T1E = self._cos_sin_2C1E.index_select(1, position_T)
        mask = None
        if last_RS.min() + 1 < columns:  # else every place sees all there is
            mask = torch.from_numpy(np.arange(columns) <= last_RS[:, None, :, None]).to(device)
        every = list(row_R) == list(range(self.rows))
        chosen_R = None if every else torch.tensor(row_R, device=device)
        layers = [
            LayerCache(key_BCHE, value_BCHE, place_T, chosen_R, columns)
            for key_BCHE, value_BCHE in zip(self.key_LBCHE, self.value_LBCHE, strict=True)
        ]
        at = Attended(groups, (groups.shape,), (mask,))
        return CacheStep(groups, AttentionContext(at, cos_T1E, sin_T1E), layers)

    def run(self, step: CacheStep, x_ND: Tensor) -> Tensor:
        """Hidden states of a step's places, written into the cache on the way; without gradients.

        Args:
            step: the last one prepared.
            x_ND: embedded places, flat [R * S, D].

        Returns:
            [R * S, D], final norm included; zeros at padding.
        """
        groups = step.groups
        if groups.order_N is None:  # one cell's tokens and no padding, as written tokens mostly are
            cell = groups.sizes.index(groups.tokens)
            if cell not in self._stacks:
                self._stacks[cell] = CellStack(self.transformer, cell)
            return self._stacks[cell](x_ND, groups.shape, step.context, step.layers)
        x_TD = self.transformer(groups.group(x_ND), groups, step.context, step.layers)
        return groups.restore(x_TD)

    def _reserve(self, columns: int) -> None:
        kept = self.key_LBCHE.shape[2]
        if columns <= kept:
            return
        # At least doubled, so that copying costs no more than writing did. Zeros, not memory as
        # it was found: what is masked is multiplied by 0, and 0 times NaN would be seen.
        more = max(columns - kept, kept, GROWTH)
        self.key_LBCHE = F.pad(self.key_LBCHE, (0, 0, 0, 0, 0, more))
        self.value_LBCHE = F.pad(self.value_LBCHE, (0, 0, 0, 0, 0, more))
        config, position_C = self.transformer.config, torch.arange(kept + more)
        angles = rotary_angles(position_C, config.head_shape.width, config.rope_base)
        self._cos_sin_2C1E = torch.stack(angles).to(self.key_LBCHE)
