"""Blocks compiled one by one, for any mix of modalities.

All blocks share one graph, which takes seconds where that of a whole network takes a minute, and
runs faster (`docs/speed.md`). The mix of modalities changes from batch to batch; rows do not, and
are compiled for their shape: with rows of any shape torch (2.14) cannot compile FlexAttention for
the CPU, and on a GPU it would have to check every block of the mask for the row's end.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

# What depends on the tokens' modalities of the arguments of `mot_lab.backbones.transformer.Block`:
# patterns of the names that torch gives them.
OF_ANY_SIZE = ",".join(
    (
        r"L\['x_TD'\]",
        r"L\['groups'\]\.sizes",
        r"L\['context'\]\.at\.groups\.sizes",
        r"L\['context'\]\.(cos|sin)_T1E",
    )
)


def compile_in_place(
    blocks: Sequence[nn.Module], backend: str | Callable[..., Any] = "inductor"
) -> None:
    """`torch.compile` each."""
    torch.compiler.config.dynamic_sources = OF_ANY_SIZE
    for block in blocks:
        block.compile(backend=backend)
