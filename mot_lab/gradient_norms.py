"""Gradient norms by tower."""

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mot_lab.backbones.towers import Towers
from mot_lab.distributed.ranks import of_here, summed_tensor


def gradient_norms(net: nn.Module) -> dict[str, Tensor]:
    """Norm of the gradient of each tower's weights; embeddings and heads count as ``heads``.

    Of weights that are sharded over processes all call it together. Empty where no weight has a
    gradient.
    """
    squares: dict[str, list[Tensor]] = defaultdict(list)
    towers = {
        id(parameter): tower
        for module in net.modules()
        if isinstance(module, Towers)
        for tower, part in module.tower.items()
        for parameter in part.parameters()
    }
    sharded = False
    for parameter in net.parameters():
        if parameter.grad is not None:
            sharded = sharded or isinstance(parameter.grad, DTensor)
            gradient = of_here(parameter.grad.detach()).float()
            squares[towers.get(id(parameter), "heads")].append(gradient.square().sum())
    if not squares:
        return {}
    sums = torch.stack([torch.stack(parts).sum() for parts in squares.values()])
    norms = (summed_tensor(sums) if sharded else sums).sqrt()
    return dict(zip(squares, norms.unbind(), strict=True))
