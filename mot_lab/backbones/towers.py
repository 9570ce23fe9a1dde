"""How Dense becomes MoT: one module per tower, each on the rows of its modalities.

Shapes: T tokens in grouped order, D width.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.wiring import Wiring, tower_name
from mot_lab.backbones.written_out import grouped_linear, grouped_rms_norm


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
        self._of_cell = {cell: tower_name(tower) for tower, cells in ordered for cell in cells}
        self.tower = nn.ModuleDict({name: make(name) for name in self.modalities})

    def forward(self, x_TD: Tensor, groups: TokenGroups) -> Tensor:
        """Each tower's module on its own rows; [T, ...] in, [T, ...] out."""
        modules, sizes = self.present(groups)
        return apply_together(modules, x_TD, sizes)

    def present(self, groups: TokenGroups) -> tuple[list[nn.Module], list[int]]:
        """The towers' modules with their numbers of rows; where absent ones are skipped and one
        tower has all tokens, that one alone."""
        modules, sizes = list(self.tower.values()), groups.tower_sizes(self.cells)
        if groups.skip_absent and groups.tokens in sizes:
            at = sizes.index(groups.tokens)
            return [modules[at]], [groups.tokens]
        return modules, sizes

    def of_cell(self, cell: int) -> nn.Module:
        """The module that the tokens of a cell pass through."""
        return self.tower[self._of_cell[cell]]

    def of(self, modality: str) -> nn.Module:
        """The module that the tokens of a modality pass through."""
        name = next(name for name, tower in self.modalities.items() if modality in tower)
        return self.tower[name]


def apply_together(modules: Sequence[nn.Module], x_TD: Tensor, sizes: Sequence[int]) -> Tensor:
    """Each module on its own rows; modules of one kind at once, where there is a way."""
    kind = type(modules[0])
    if all(type(module) is kind for module in modules):
        if kind is nn.Linear and all(each.bias is None for each in modules):
            return grouped_linear(x_TD, sizes, [cast(Tensor, each.weight) for each in modules])
        if kind is nn.RMSNorm:
            weights = [cast(Tensor, each.weight) for each in modules]
            return grouped_rms_norm(x_TD, sizes, weights, cast(float, modules[0].eps))
        if kind is FeedForward:
            return FeedForward.together(cast(list[FeedForward], modules), x_TD, sizes)
    if len(modules) == 1:
        return modules[0](x_TD)
    return torch.cat([m(part) for m, part in zip(modules, x_TD.split(list(sizes)), strict=True)])
