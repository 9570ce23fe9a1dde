"""Every document a row of its own, for attention on the CPU, where a dense mask is read whole.

Rows packed with documents make attention compute scores that nobody sees: of four documents in a
row, three quarters. Here documents stand below each other while attention is computed, those of
about one length in a table of their own, as FlexAttention skips blocks and FlashAttention's
variable-length kernel (arXiv 2307.08691) skips other documents on GPUs.

Shapes: B rows, S positions, T tokens in grouped order, N = B * S flat places, M documents, P places
of all tables, R rows and L columns of one table.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mot_lab.backbones.grouping import TokenGroups

Table = tuple[int, int]

# Torch's kernel is at its best with rows of a multiple of this: 64 places 1.8 ms, 72 2.5 ms.
MULTIPLE = 16
# In query-key pairs, fitted to lengths of 16 to 128 on an AMD EPYC (`experiments/LOG.md`): what
# a place costs beside its pairs, and what a table costs beside its rows.
PAIRS_PER_PLACE, PAIRS_PER_TABLE = 48, 6_000


@dataclass(frozen=True)
class DocumentRows:
    """Where the tokens of a batch stand while attention is computed.

    Attributes:
        tables: (R, L) of each, shorter documents first; places are counted through all of them.
        groups: from grouped order to these places and back (its shape is (1, P)).
        document_P: numbers of the documents; -1 where no token stands, behind a document.
        image_P: image ids; -1 where no token stands, too.
    """

    tables: tuple[Table, ...]
    groups: TokenGroups
    document_P: Tensor
    image_P: Tensor

    @classmethod
    def build(cls, groups: TokenGroups, document_BS: Tensor, image_BS: Tensor) -> "DocumentRows":
        """Of one batch; padding stands nowhere.

        Args:
            groups: of the batch's tokens.
            document_BS: document ids [B, S], unique within a row.
            image_BS: image ids [B, S], unique within a document, -1 outside images.
        """
        device, places = document_BS.device, document_BS.numel()
        flat_T = groups.regroup(torch.arange(places, device=device))
        document_T, length_M = _numbered(document_BS, flat_T)
        lengths = length_M.tolist()
        columns = table_columns(lengths)
        column_M = torch.tensor([columns[each] for each in lengths], device=device)
        shortest_first_M = column_M.sort(stable=True).indices
        begin_M = torch.empty_like(column_M)
        begin_M[shortest_first_M] = (
            column_M[shortest_first_M].cumsum(0) - column_M[shortest_first_M]
        )
        # Document by document, and in each in the order of its row, wherever in it it stands.
        order_T = (document_T * places + flat_T).argsort()
        first_M = length_M.cumsum(0) - length_M
        place_T = torch.empty_like(order_T)
        place_T[order_T] = (begin_M - first_M).repeat_interleave(length_M)
        place_T[order_T] += torch.arange(len(order_T), device=device)
        rows_of = Counter(columns[each] for each in lengths)
        tables = tuple((rows_of[length], length) for length in sorted(rows_of))
        at = groups.standing_at(place_T, int(column_M.sum()))
        ids_P = torch.full((2, at.shape[1]), -1, device=device)
        ids_P[:, place_T] = torch.stack([document_T, image_BS.flatten()[flat_T]])
        return cls(tables, at, *ids_P)


def of_tables(x_P: Tensor, tables: Sequence[Table]) -> list[Tensor]:
    """[P, ..] -> [R, L, ..] of every table."""
    if len(tables) == 1:
        return [x_P.unflatten(0, tables[0])]
    parts = x_P.split_with_sizes([rows * length for rows, length in tables])
    return [part.unflatten(0, table) for part, table in zip(parts, tables, strict=True)]


def cost(tables: Sequence[Table]) -> int:
    """Time of attention over tables, in query-key pairs."""
    return sum(
        PAIRS_PER_TABLE + rows * length * (length + PAIRS_PER_PLACE) for rows, length in tables
    )


def table_columns(lengths: Sequence[int]) -> dict[int, int]:
    """For each length of a document the columns of its table, so that together they cost the least:
    of all ways to cut the sorted lengths into tables the best, from the shortest on."""
    documents = Counter(-(-length // MULTIPLE) * MULTIPLE for length in lengths)
    widths = sorted(documents)
    # Of the first i widths the least cost, and where its last table begins.
    best, begin_of = [0], [0]
    for end, columns in enumerate(widths, 1):
        ways, rows = [], 0
        for begin in reversed(range(end)):
            rows += documents[widths[begin]]
            ways.append((best[begin] + cost([(rows, columns)]), begin))
        least, begin = min(ways)
        best.append(least)
        begin_of.append(begin)
    chosen: list[int] = []
    end = len(widths)
    while end:
        chosen.insert(0, widths[end - 1])
        end = begin_of[end]
    return {length: chosen[bisect_left(chosen, length)] for length in set(lengths)}


def _numbered(document_BS: Tensor, flat_T: Tensor) -> tuple[Tensor, Tensor]:
    """The number of each token's document in the batch [T], and the documents' lengths [M]."""
    row_B1 = torch.arange(len(document_BS), device=document_BS.device)[:, None]
    lowest = document_BS.min()
    ids_BS = document_BS - lowest + row_B1 * (document_BS.max() - lowest + 1)
    _, document_T, length_M = ids_BS.flatten()[flat_T].unique(
        return_inverse=True, return_counts=True
    )
    return document_T, length_M
