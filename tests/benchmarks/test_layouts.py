"""The layouts that are timed beside ours compute what ours does, whatever the mix."""

import pytest
import torch
from factories import assert_close

from benchmarks.layouts import Size, block_works
from benchmarks.mixes import MIXES
from benchmarks.peer_layouts import PEERS

TINY = Size(width=16, heads=2, feed_forward_multiple=16, rows=2, length=80)


@pytest.mark.parametrize("mix", MIXES)
def test_every_layout_is_the_same_block(mix: str) -> None:
    works = block_works(TINY, mix, torch.device("cpu"), torch.float64)
    assert set(works) == {"dense", "ours", "ours, whole rows", *PEERS}
    output, gradient = works["ours"].in_sequence()
    assert output.abs().max() > 0.1
    for name in ("ours, whole rows", *PEERS):
        other, other_gradient = works[name].in_sequence()
        assert_close(other, output, 1e-12)
        assert_close(other_gradient, gradient, 1e-12)
    assert (works["dense"].in_sequence()[0] - output).abs().max() > 1e-3  # its weights are shared
