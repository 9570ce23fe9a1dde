"""The softmax over the whole sequence, by one of three kernels that say the same.

``sdpa`` reads a dense mask of whole rows. ``documents`` reads a dense mask of each document, which
stands in a row of its own while attention is computed (`mot_lab.backbones.document_rows`), unless
whole rows cost less. ``flex`` (FlexAttention, arXiv 2412.05496) reads a mask in blocks, made once
per batch, and skips the blocks in which nobody sees anybody: half of a causal row, and more of it
the more documents are packed into a row.

Shapes: B rows, S positions, N places, C keys, H query heads, K heads of keys and values, E head
width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from mot_lab.backbones.document_rows import DocumentRows, cost, of_tables
from mot_lab.backbones.grouping import TokenGroups

Kernel = Literal["auto", "sdpa", "documents", "flex"]

# Below this a row has too few blocks of 128 x 128 for leaving some out to matter.
SHORTEST_FOR_FLEX = 1024


def attention_mask(document_BS: Tensor, image_BS: Tensor) -> Tensor:
    """Who sees whom: causal, bidirectional inside one image, never across documents.

    Args:
        document_BS: document ids [B, S], unique within a row; padding is a document of its own.
        image_BS: image ids [B, S], unique within a document, -1 outside images that are denoised
            jointly (Transfusion, arXiv 2408.11039, section 3.2).

    Returns:
        bool [B, 1, S, S], True where the query (third axis) may attend to the key (last axis).
    """
    length = document_BS.shape[1]
    causal_SS = torch.ones(length, length, dtype=torch.bool, device=document_BS.device).tril()
    same_image_BSS = (image_BS[:, :, None] == image_BS[:, None, :]) & (image_BS[:, :, None] >= 0)
    same_document_BSS = document_BS[:, :, None] == document_BS[:, None, :]
    return ((causal_SS | same_image_BSS) & same_document_BSS)[:, None]


def block_mask(document_BS: Tensor, image_BS: Tensor) -> BlockMask:
    """`attention_mask` in blocks of 128 x 128, for ``flex``."""

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same_image = (image_BS[row, query] == image_BS[row, key]) & (image_BS[row, query] >= 0)
        same_document = document_BS[row, query] == document_BS[row, key]
        return ((query >= key) | same_image) & same_document

    rows, length = document_BS.shape
    create = _by_itself(create_block_mask, document_BS.is_cuda)
    return create(seen, rows, None, length, length, device=document_BS.device)


def chosen_kernel(kernel: Kernel, row_length: int, on_gpu: bool, compiled: bool = False) -> Kernel:
    """What ``auto`` stands for: on a GPU ``flex`` for rows of 1,024 places and more, else ``sdpa``;
    on the CPU ``documents``, or ``sdpa`` in blocks that are compiled, since no two batches have
    documents of the same lengths. The others stand for themselves.
    """
    if kernel != "auto":
        return kernel
    if on_gpu:
        return "flex" if row_length >= SHORTEST_FOR_FLEX else "sdpa"
    return "sdpa" if compiled else "documents"


@dataclass(frozen=True)
class Attended:
    """Where attention finds the tokens of a batch, and who sees whom there.

    Attributes:
        groups: from grouped order to the places of attention and back.
        tables: (B, S) of the tables in which these places stand, one after the other.
        masks: of each table, over the keys of its rows: bool or what is added to scores
            [B, 1, S, C], or blocks; None where all see everything.
    """

    groups: TokenGroups
    tables: tuple[tuple[int, int], ...]
    masks: tuple[Tensor | BlockMask | None, ...]

    def tables_of(self, x_NHE: Tensor) -> list[Tensor]:
        """[N, H, E] at the places of attention -> [B, H, S, E] of every table."""
        return [x_BSHE.transpose(1, 2) for x_BSHE in of_tables(x_NHE, self.tables)]

    @staticmethod
    def joined(x_of_tables: Sequence[Tensor]) -> Tensor:
        """The way back: [B, H, S, E] of every table -> [N, H, E]."""
        parts = [x_BHSE.transpose(1, 2).flatten(0, 1) for x_BHSE in x_of_tables]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def attended(
    kernel: Kernel,
    groups: TokenGroups,
    document_BS: Tensor,
    image_BS: Tensor,
    dtype: torch.dtype,
) -> Attended:
    """Of a batch, in the form that its kernel reads. A dense mask is what is added to scores, since
    torch would make that of a bool mask anew in every layer.

    Args:
        kernel: not ``auto``.
        groups: of the batch's tokens.
        document_BS, image_BS: as of `attention_mask`.
        dtype: of the weights; under autocast attention has that of autocast.

    Raises:
        ValueError: ``flex`` where gradients are wanted on the CPU: torch has no backward pass
            of it there.
    """
    if kernel == "flex":
        if document_BS.device.type == "cpu" and torch.is_grad_enabled():
            raise ValueError(
                "training.attention flex cannot train on the CPU: FlexAttention has no backward "
                "pass there; say auto, documents or sdpa"
            )
        return Attended(groups, (groups.shape,), (block_mask(document_BS, image_BS),))
    if kernel == "documents":
        rows = DocumentRows.build(groups, document_BS, image_BS)
        if cost(rows.tables) < cost([groups.shape]):
            documents, images = (
                of_tables(ids_P, rows.tables) for ids_P in (rows.document_P, rows.image_P)
            )
            masks = tuple(_added(*each, dtype) for each in zip(documents, images, strict=True))
            return Attended(rows.groups, rows.tables, masks)
    return Attended(groups, (groups.shape,), (_added(document_BS, image_BS, dtype),))


def _added(document_BS: Tensor, image_BS: Tensor, dtype: torch.dtype) -> Tensor:
    """`attention_mask` as what is added to scores."""
    device = document_BS.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    mask_B1SS = attention_mask(document_BS, image_BS)
    return torch.zeros_like(mask_B1SS, dtype=dtype).masked_fill_(~mask_B1SS, -torch.inf)


def attend_tables(q_NHE: Tensor, k_NKE: Tensor, v_NKE: Tensor, at: Attended) -> Tensor:
    """`attend` on tokens in the order of their places: [N, H, E]."""
    of_tables = zip(*map(at.tables_of, (q_NHE, k_NKE, v_NKE)), at.masks, strict=True)
    return at.joined([attend(*each) for each in of_tables])


def attend(
    q_BHSE: Tensor, k_BKCE: Tensor, v_BKCE: Tensor, mask: Tensor | BlockMask | None
) -> Tensor:
    """Softmax attention [B, H, S, E]; each head of keys and values serves H / K query heads.

    Args:
        mask: of `Attended`.
    """
    grouped = q_BHSE.shape[1] != k_BKCE.shape[1]
    if not isinstance(mask, BlockMask):
        return F.scaled_dot_product_attention(
            q_BHSE, k_BKCE, v_BKCE, attn_mask=mask, enable_gqa=grouped
        )
    # QK-norms make fp32 of bf16, and FlexAttention, unlike torch's own, may keep to it.
    q_BHSE, k_BKCE = q_BHSE.to(v_BKCE.dtype), k_BKCE.to(v_BKCE.dtype)
    flex = _by_itself(flex_attention, q_BHSE.is_cuda)
    y_BHSE = flex(q_BHSE, k_BKCE, v_BKCE, block_mask=mask, enable_gqa=grouped)
    assert isinstance(y_BHSE, Tensor)  # not with its log-sum-exp
    return y_BHSE


def _by_itself(function: Callable[..., Any], on_gpu: bool) -> Any:
    """Compiled on a GPU, where FlexAttention and the making of its mask would else hold all pairs
    of places in memory; but not in a block that is compiled: that would cut its graph in two.
    """
    return _compiled(function) if on_gpu and not torch.compiler.is_compiling() else function


@cache
def _compiled(function: Callable[..., Any]) -> Any:
    return torch.compile(function)
