"""Which tokens the experts take, by layer, tower and modality.

Shapes: T tokens in grouped order, M tokens of one modality, E experts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mot_lab.batch import MultimodalBatch
from mot_lab.model import MultimodalModel

Feed = tuple[int, str, str]
"""Layer, tower and modality."""


@dataclass(frozen=True)
class Taken:
    """What the experts of one feed-forward took of one modality: bool [M, E]."""

    layer: int
    tower: str
    modality: str
    taken_ME: Tensor

    @property
    def unrouted_M(self) -> Tensor:
        """bool, tokens that no expert took."""
        return ~self.taken_ME.any(dim=1)


def last_taken(net: MultimodalModel, batch: MultimodalBatch) -> Iterator[Taken]:
    """Of the last forward pass, which must have been of this batch; nothing without experts.

    Modalities without a token in the batch are left out.
    """
    experts = net.transformer.expert_choice()
    if not experts:
        return
    names = net.transformer.wiring.modalities
    modality_T = net.groups(batch).group(batch.modality_BS.reshape(-1, 1))[:, 0]
    for layer, tower, module in experts:
        inside = net.transformer.layers[layer].feed_forward.modalities[tower]
        members = [i for i, name in enumerate(names) if name in inside]
        of_tower = modality_T[torch.isin(modality_T, modality_T.new_tensor(members))]
        assert module.taken_TE is not None
        for i in members:
            if batch.counts[names[i]]:
                yield Taken(layer, tower, names[i], module.taken_TE[of_tower == i])


class ExpertTally:
    """Counts what experts take over batches, by layer, tower and modality."""

    def __init__(self) -> None:
        self._tokens: dict[Feed, int] = {}
        self._unrouted: dict[Feed, int] = {}
        self._taken: dict[Feed, np.ndarray] = {}

    def add(self, net: MultimodalModel, batch: MultimodalBatch) -> None:
        """Count the last forward pass, which was of this batch."""
        for each in last_taken(net, batch):
            feed = (each.layer, each.tower, each.modality)
            taken_E = each.taken_ME.sum(dim=0).cpu().numpy()
            self._tokens[feed] = self._tokens.get(feed, 0) + len(each.taken_ME)
            self._unrouted[feed] = self._unrouted.get(feed, 0) + int(each.unrouted_M.sum())
            self._taken[feed] = self._taken.get(feed, 0) + taken_E

    @property
    def tokens(self) -> Mapping[Feed, int]:
        """Tokens counted."""
        return self._tokens

    def unrouted(self, feed: Feed) -> float:
        """Share of the tokens that no expert took."""
        return self._unrouted[feed] / self._tokens[feed]

    def load(self, feed: Feed) -> list[float]:
        """Share of the tokens that each expert took; they sum to the experts per token."""
        return (self._taken[feed] / self._tokens[feed]).tolist()
