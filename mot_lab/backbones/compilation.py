"""Blocks compiled one by one, for any mix of modalities.

All blocks share one graph, which takes seconds where that of a whole network takes a minute, and
runs faster (`docs/speed.md`). The mix of modalities changes from batch to batch, and is compiled
for any; a modality that is absent, or has a single token, is a case of its own. Rows of a run have
one shape, and are compiled for it, since torch (2.14) cannot compile FlexAttention for the CPU with
rows of any shape. A run with ``training.accumulate`` validates with more rows than it trains with:
then torch compiles once more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch._dynamo import config as dynamo_config

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
# Graphs of one function. All arms in a process share these, each with and without gradients and
# with each set of absent modalities; past the limit torch would go on without compiling.
MOST_GRAPHS = 64


def compile_in_place(
    blocks: Sequence[nn.Module], backend: str | Callable[..., Any] = "inductor"
) -> None:
    """`torch.compile` each. Torch's settings, of this thread, are changed for it and stay so."""
    asked = torch.compiler.config.dynamic_sources
    if OF_ANY_SIZE not in asked:
        torch.compiler.config.dynamic_sources = f"{asked},{OF_ANY_SIZE}" if asked else OF_ANY_SIZE
    dynamo_config.recompile_limit = max(dynamo_config.recompile_limit, MOST_GRAPHS)
    for block in blocks:
        block.compile(backend=backend)
