"""How Dense becomes MoT: one module per tower, each on the rows of its modalities.

Shapes: T tokens in grouped order, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.wiring import Wiring, tower_name


class Towers(nn.Module):
    """Copies of one module, a copy per tower of a weight kind.

    Args:
        wiring: the arm.
        kind: ``attention``, ``output``, ``feed_forward`` or ``norms``.
        make: builds the module of one tower, given the tower's name.
    """

    def __init__(self, wiring: Wiring, kind: str, make: Callable[[str], nn.Module]) -> None:
        super().__init__()
        ordered = wiring.ordered(kind)
        self.cells = tuple(cells for _, cells in ordered)
        self.modalities = {tower_name(tower): tower for tower, _ in ordered}
        self.tower = nn.ModuleDict({name: make(name) for name in self.modalities})

    def forward(self, x_TD: Tensor, groups: TokenGroups) -> Tensor:
        """Each tower's module on its own rows; [T, ...] in, [T, ...] out."""
        if len(self.cells) == 1:
            (only,) = self.tower.values()
            return only(x_TD)
        sizes = groups.tower_sizes(self.cells)
        if groups.skip_absent and groups.tokens in sizes:
            return list(self.tower.values())[sizes.index(groups.tokens)](x_TD)
        parts = x_TD.split(sizes)
        return torch.cat([m(part) for m, part in zip(self.tower.values(), parts, strict=True)])

    def of(self, modality: str) -> nn.Module:
        """The module that the tokens of a modality pass through."""
        name = next(name for name, tower in self.modalities.items() if modality in tower)
        return self.tower[name]
