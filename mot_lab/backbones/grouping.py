"""Tokens sorted by tower, once per batch, so that every weight works on contiguous rows.

Shapes: B rows, S positions per row, T real tokens (no padding) of the batch, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mot_lab.backbones.wiring import Wiring


class _Group(torch.autograd.Function):
    """`TokenGroups.regroup`, whose backward is `TokenGroups.restored`: two gathers, no scatter."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, groups: "TokenGroups") -> Tensor:  # type: ignore[override]
        ctx.groups = groups
        return groups.regroup(x_ND)

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.groups.restored(grad_TD), None


class _Restore(torch.autograd.Function):
    """`TokenGroups.restored`, whose backward is `TokenGroups.regroup`."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, groups: "TokenGroups") -> Tensor:  # type: ignore[override]
        ctx.groups = groups
        return groups.restored(x_TD)

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.groups.regroup(grad_ND), None


@dataclass(frozen=True)
class TokenGroups:
    """Where each token of a batch stands in grouped order.

    Attributes:
        order_N: grouped place -> flat place ``b * S + s``, padding last (N = B * S); None when
            grouped order is sequence order (all in one cell, no padding): then nothing is moved.
        inverse_N: flat place -> grouped place; None likewise.
        sizes: real tokens of each cell of the wiring (host ints).
        shape: (B, S); of `standing_at` (1, P), and N is P.
        skip_absent: a tower that has all tokens is called alone. Otherwise the others are called
            with none, so that their weights get gradients of zero and their experts take nothing.
    """

    order_N: Tensor | None
    inverse_N: Tensor | None
    sizes: tuple[int, ...]
    shape: tuple[int, int]
    skip_absent: bool = False

    @classmethod
    def build(
        cls,
        modality_BS: Tensor,
        counts: Mapping[str, int],
        wiring: Wiring,
        skip_absent: bool = False,
    ) -> "TokenGroups":
        """Sort a batch's tokens by cell, keeping sequence order inside each.

        Args:
            modality_BS: int64 modality ids [B, S], -1 for padding.
            counts: real tokens per modality (host ints, so that the device is never waited for).
            wiring: whose cells are the groups.
            skip_absent: where nothing is learnt and nobody asks what experts took.

        Example:
            >>> from mot_lab.backbones.wiring import named_arms
            >>> mot = named_arms(["text", "image"])["mot"].wiring
            >>> modality_BS = torch.tensor([[0, 1, 1, 0]])
            >>> TokenGroups.build(modality_BS, {"text": 2, "image": 2}, mot).order_N.tolist()
            [0, 3, 1, 2]
        """
        rows, length = modality_BS.shape
        sizes = tuple(sum(counts[name] for name in cell) for cell in wiring.cells)
        if max(sizes) == rows * length:
            return cls(None, None, sizes, (rows, length), skip_absent)
        flat_N = modality_BS.flatten()
        # Padding sorts behind everything. A table of cells made on the host would have to be copied
        # to the device, which makes the host wait for it.
        cell_N = torch.full_like(flat_N, len(sizes))
        for cell, members in enumerate(wiring.cells):
            for name in members:
                cell_N.masked_fill_(flat_N == wiring.modalities.index(name), cell)
        order_N = torch.sort(cell_N, stable=True).indices
        return cls(order_N, _inverse(order_N), sizes, (rows, length), skip_absent)

    @property
    def tokens(self) -> int:
        """Number T of real tokens."""
        return sum(self.sizes)

    def tower_sizes(self, towers: tuple[tuple[int, ...], ...]) -> list[int]:
        """Rows of each tower, given the cells that each one holds."""
        return [sum(self.sizes[cell] for cell in cells) for cells in towers]

    def group(self, x_ND: Tensor) -> Tensor:
        """From flat sequence order [B * S, ...] to grouped order [T, ...]; padding is dropped."""
        return x_ND if self.order_N is None else _Group.apply(x_ND, self)

    def restore(self, x_TD: Tensor) -> Tensor:
        """From grouped order [T, ...] to flat sequence order [B * S, ...]; padding gets zeros."""
        return x_TD if self.order_N is None else _Restore.apply(x_TD, self)

    def regroup(self, x_ND: Tensor, out: Tensor | None = None) -> Tensor:
        """`group` outside of autograd, into ``out`` where it is given."""
        if self.order_N is None:
            return x_ND if out is None else out.copy_(x_ND)
        return torch.index_select(x_ND, 0, self.order_N[: self.tokens], out=out)

    def restored(self, x_TD: Tensor, any_padding: bool = False) -> Tensor:
        """`restore` outside of autograd.

        Args:
            x_TD: tokens.
            any_padding: what stands at padding does not matter.
        """
        if self.inverse_N is None or self.order_N is None:
            return x_TD
        if torch.compiler.is_compiling():
            # No question about the amount of padding, whose every answer would be compiled apart.
            y_ND = x_TD.index_select(0, self.inverse_N.clamp(max=self.tokens - 1))
            real_N = self.inverse_N < self.tokens
            return torch.where(real_N.view(-1, *[1] * (y_ND.dim() - 1)), y_ND, 0)
        y_ND = x_TD.index_select(0, self._source_N)
        if any_padding or self.tokens == len(self.order_N):
            return y_ND
        return y_ND.index_fill_(0, self.order_N[self.tokens :], 0)

    @cached_property
    def _source_N(self) -> Tensor:
        """The grouped place that each flat place reads from; padding reads from the last."""
        assert self.inverse_N is not None
        return self.inverse_N.clamp(max=self.tokens - 1)

    def standing_at(self, place_T: Tensor, places: int) -> "TokenGroups":
        """The same tokens in the same grouped order, with other places than those of the batch.

        Args:
            place_T: of each token in grouped order, no two alike.
            places: number P of places; those where no token stands are padding.
        """
        order_P = torch.arange(places, device=place_T.device)
        if self.tokens == places and torch.equal(place_T, order_P):
            return replace(self, order_N=None, inverse_N=None, shape=(1, places))
        empty_P = torch.ones(places, dtype=torch.bool, device=place_T.device)
        empty_P[place_T] = False
        order_P = torch.cat([place_T, order_P[empty_P]])
        return replace(self, order_N=order_P, inverse_N=_inverse(order_P), shape=(1, places))

    def places(self, flat_K: Tensor) -> Tensor:
        """Grouped places of given flat places ``b * S + s``."""
        return flat_K if self.inverse_N is None else self.inverse_N[flat_K]


def _inverse(order_N: Tensor) -> Tensor:
    inverse_N = torch.empty_like(order_N)
    inverse_N[order_N] = torch.arange(order_N.numel(), device=order_N.device)
    return inverse_N
