"""Every document a row of its own, for attention on the CPU, where a dense mask is read whole.

Rows packed with documents make attention compute scores that nobody sees: of four documents in a
row, three quarters. Here documents stand below each other while attention is computed, those of
about one length in a table of their own, as FlexAttention skips blocks and FlashAttention's
variable-length kernel (arXiv 2307.08691) skips other documents on GPUs.

Shapes: B rows, S positions, T tokens in grouped order, N = B * S places, M documents, P places of
all tables, R rows and L columns of one table.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mot_lab.backbones.grouping import TokenGroups

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
        document_P, image_P: as of `mot_lab.backbones.attending.attention_mask`.
    """

    tables: tuple[tuple[int, int], ...]
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
        device = document_BS.device
        flat_T = torch.arange(document_BS.numel(), device=device)
        if groups.order_N is not None:
            flat_T = groups.order_N[: groups.tokens].sort().values
        place_T, tables, row_T = _placed(document_BS, flat_T)
        places = sum(rows * length for rows, length in tables)
        document_P, image_P = (flat_T.new_full((places,), -1) for _ in range(2))
        document_P[place_T] = row_T
        image_P[place_T] = image_BS.flatten()[flat_T]
        place_N = flat_T.new_empty(document_BS.numel())
        place_N[flat_T] = place_T
        if groups.order_N is not None:
            place_T = place_N[groups.order_N[: groups.tokens]]
        return cls(tables, groups.standing_at(place_T, places), document_P, image_P)

    def of_tables(self, ids_P: Tensor) -> list[Tensor]:
        """[P] -> [R, L] of every table."""
        parts = ids_P.split([rows * length for rows, length in self.tables])
        return [part.view(table) for part, table in zip(parts, self.tables, strict=True)]


def _placed(
    document_BS: Tensor, flat_T: Tensor
) -> tuple[Tensor, tuple[tuple[int, int], ...], Tensor]:
    """Places [T] of tokens in sequence order, the tables, and the tokens' documents [T]."""
    row_N = torch.arange(len(document_BS), device=flat_T.device)
    lowest = document_BS.min()
    ids_BS = document_BS - lowest + row_N[:, None] * (document_BS.max() - lowest + 1)
    _, document_T, length_M = ids_BS.flatten()[flat_T].unique(
        return_inverse=True, return_counts=True
    )
    lengths = length_M.tolist()
    columns = table_columns(lengths)
    column_M = torch.tensor([columns[length] for length in lengths], device=flat_T.device)
    order_M = column_M.sort(stable=True).indices
    begin_M = torch.empty_like(column_M)
    begin_M[order_M] = column_M[order_M].cumsum(0) - column_M[order_M]
    # Tokens of one document stand in the order of their row, wherever in it they are.
    order_T = document_T.sort(stable=True).indices
    rank_T = torch.empty_like(order_T)
    first_M = length_M.cumsum(0) - length_M
    rank_T[order_T] = torch.arange(len(flat_T), device=flat_T.device) - first_M[document_T[order_T]]
    tables = Counter(column_M.tolist())
    return (
        begin_M[document_T] + rank_T,
        tuple((tables[length], length) for length in sorted(tables)),
        document_T,
    )


def table_columns(lengths: Sequence[int]) -> dict[int, int]:
    """For each length of a document the columns of its table, so that together they take the
    least time: of all ways to cut the sorted lengths into tables the best, from the shortest on."""
    documents = Counter(-(-length // MULTIPLE) * MULTIPLE for length in lengths)
    widths = sorted(documents)
    best: list[tuple[float, list[int]]] = [(0, [])]  # of the first i widths: cost, columns
    for end, columns in enumerate(widths, 1):
        each = columns * (columns + PAIRS_PER_PLACE)
        ways, rows = [], 0
        for begin in range(end - 1, -1, -1):
            rows += documents[widths[begin]]
            cost, before = best[begin]
            ways.append((cost + PAIRS_PER_TABLE + rows * each, [*before, columns]))
        best.append(min(ways))
    chosen = best[-1][1]
    return {length: next(c for c in chosen if c >= length) for length in set(lengths)}
