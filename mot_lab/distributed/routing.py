"""Which tokens an expert takes, of one process's or of those of all.

Of those of all, only router scores travel, [T, E] of each process in every layer; tokens and
experts stay where they are. The choice itself has no gradient, so none needs to travel back.

Shapes: T tokens of the tower here, G of it on all processes, E experts, K tokens per expert, R
processes, C cells of the tower.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from mot_lab.distributed.ranks import rank

LEVELS = 2**16  # of a score, which lies between 0 and 1


def best(score_TE: Tensor, k: int) -> Tensor:
    """int64 [E, K]: each expert's k highest-scoring tokens, in no order; of equal ones the first.

    The first token of every document sees nothing but itself: all of them are alike, layer after
    layer. Which of them an expert takes must not hang on how a matrix product over this or that
    number of rows rounds, so scores are compared to the 65,536th part.
    """
    tokens = len(score_TE)
    level_ET = (score_TE.detach().t() * LEVELS).round().long()
    before_T = torch.arange(tokens, 0, -1, device=score_TE.device)
    # Now no two are equal, and the k best are found without sorting the others.
    return (level_ET * tokens + before_T).topk(k, dim=1, sorted=False).indices


def taken_of_all(score_TE: Tensor, sizes_RC: Sequence[Sequence[int]], k: int) -> Tensor:
    """bool [T, E]: which of this process's tokens are among an expert's k best of all processes.

    The scores are compared in the order in which one process with all rows would have them, cell by
    cell and there row by row, so that equal ones are chosen alike.

    Args:
        score_TE: of this process's tokens, in grouped order.
        sizes_RC: tokens of every process by cell of the tower.
        k: tokens per expert, of all processes.
    """
    score_GE = torch.cat(_in_order(_of_all(score_TE, sizes_RC), sizes_RC))
    chosen_EK = best(score_GE, k)
    taken_EG = torch.zeros_like(score_GE.t(), dtype=torch.bool).scatter_(1, chosen_EK, True)
    flat = [sizes[cell] for cell in range(len(sizes_RC[0])) for sizes in sizes_RC]
    own = taken_EG.t().split(flat)[rank() :: len(sizes_RC)]
    return torch.cat(own)


def _of_all(score_TE: Tensor, sizes_RC: Sequence[Sequence[int]]) -> list[Tensor]:
    """[T, E] of every process. What is exchanged must have one length: that of the longest."""
    totals_R = [sum(sizes) for sizes in sizes_RC]
    longest = max(totals_R)
    padded = F.pad(score_TE.detach(), (0, 0, 0, longest - len(score_TE))).contiguous()
    gathered = [torch.empty_like(padded) for _ in sizes_RC]
    dist.all_gather(gathered, padded)
    return [each[:total] for each, total in zip(gathered, totals_R, strict=True)]


def _in_order(scores: list[Tensor], sizes_RC: Sequence[Sequence[int]]) -> list[Tensor]:
    """Parts of the processes' scores: the first cell's, rank by rank, then the next one's."""
    parts_RC = [each.split(list(sizes)) for each, sizes in zip(scores, sizes_RC, strict=True)]
    return [part for parts_R in zip(*parts_RC, strict=True) for part in parts_R]
