"""``compile: true``: blocks are compiled once, for all layers and mixes of modalities.

Shapes: B rows, H heads, S positions, E head width.
"""

from itertools import islice

import pytest
import torch
from factories import (
    CHAMELEON_SPEECH,
    INTERFACE,
    assert_close,
    assert_same_gradients,
    random_batches,
    random_layout,
    tiny_backbone,
)
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from mot_lab.backbones.attending import _by_itself, block_mask
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.module import ModelConfig, MultimodalModule


def test_one_compilation_serves_fifty_batches_of_changing_mix() -> None:
    """Batches with fewer than two images are left out: torch compiles sizes 0 and 1 apart."""
    config = ModelConfig(backbone=tiny_backbone(layers=3))
    compiled, plain = (MultimodalModule(config, INTERFACE, "mot") for _ in range(2))
    counter = _compiling(compiled)
    mixed = (batch for batch in random_batches() if batch.num_images > 1)
    mixes, paddings = set(), set()
    for batch in islice(mixed, 50):
        compiled.zero_grad()
        compiled.losses(batch).total.backward()
        mixes.add(tuple(batch.counts.values()))
        paddings.add(batch.token_BS.numel() - batch.num_tokens)
    assert len(mixes) > 10
    assert {0, 1} < paddings  # sizes that are compiled apart where somebody asks for them
    assert counter.frame_count == 1  # for all layers, too
    net, ids = compiled.net, (batch.document_BS, batch.image_BS, batch.position_BS)
    # No two batches have documents of the same lengths: they stand in whole rows.
    tables = net.transformer.context(net.groups(batch), *ids).at.tables
    assert tables == (tuple(batch.token_BS.shape),)
    plain.losses(batch).total.backward()
    actual, expected = (
        {name: each.grad for name, each in module.net.named_parameters()}
        for module in (compiled, plain)
    )
    assert_same_gradients(actual, expected, 1e-4)


@pytest.mark.parametrize("arm", ["dense", "moe_4x", "mot", "mot_text_moe_4x"])
def test_no_arm_is_compiled_more_than_twice(arm: str) -> None:
    """Whatever batches have: no image, or no padding, is compiled apart, once."""
    batches = list(islice(random_batches(), 50))
    assert {0, 1} < {batch.num_images for batch in batches}
    assert _compilations(arm, INTERFACE, batches) <= 2


@pytest.mark.parametrize("arm", ["mot", "mot_text_moe_4x"])
def test_of_three_modalities_each_set_of_absent_ones_is_compiled_once(arm: str) -> None:
    given = random_batches(interface=CHAMELEON_SPEECH)
    batches = list(islice((each for each in given if 1 not in each.counts.values()), 50))
    present = {tuple(map(bool, batch.counts.values())) for batch in batches}
    assert len(present) > 1
    assert _compilations(arm, CHAMELEON_SPEECH, batches) == len(present)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # eager backend
def test_masks_in_blocks_are_no_reason_to_compile_anew() -> None:
    """Each batch makes one of its own. Without gradients: FlexAttention has none on the CPU."""
    config = ModelConfig(backbone=tiny_backbone(width=64))
    compiled, plain = (MultimodalModule(config, INTERFACE, "mot") for _ in range(2))
    counter = _compiling(compiled)
    compiled.net.transformer.kernel = "flex"
    mixed = (batch for batch in random_batches() if batch.num_images > 1)
    with torch.no_grad():
        for batch in islice(mixed, 10):
            found, expected = (each.losses(batch).total for each in (compiled, plain))
            assert_close(found, expected, 1e-5)
    assert counter.frame_count == 1
    assert "flex_attention" in counter.graphs[0].code


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # eager backend
def test_flex_attention_cuts_no_graph_in_two() -> None:
    """On a GPU, where it is compiled by itself but for blocks that are compiled."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    q_BHSE = torch.randn(1, 2, 16, 16)

    @torch.compile(backend=counter, fullgraph=True)
    def attended(q_BHSE: Tensor) -> Tensor:
        return _by_itself(flex_attention, on_gpu=True)(q_BHSE, q_BHSE, q_BHSE)

    expected = torch.nn.functional.scaled_dot_product_attention(q_BHSE, q_BHSE, q_BHSE)
    assert_close(attended(q_BHSE), expected, 1e-5)
    assert counter.frame_count == 1


def test_masks_in_blocks_are_made_by_one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where they are compiled."""
    layouts = [random_layout(seed, rows=2, length=300) for seed in range(5)]
    ids = [(layout.document_BS, layout.image_BS) for layout in layouts]
    plain = [block_mask(*each) for each in ids]
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(create_block_mask, backend=counter)
    monkeypatch.setattr("mot_lab.backbones.attending.create_block_mask", compiled)
    names = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    places = torch.meshgrid(torch.arange(2), torch.arange(300), torch.arange(300), indexing="ij")
    for each, expected in zip(ids, plain, strict=True):
        found = block_mask(*each)
        for name in names:
            assert torch.equal(getattr(found, name), getattr(expected, name))
        # What is asked inside of a block is asked of this batch, not of the first.
        row, query, key = places
        pairs = (row, torch.tensor(0), query, key)
        assert torch.equal(found.mask_mod(*pairs), expected.mask_mod(*pairs))
    assert counter.frame_count == 1


def test_all_arms_of_a_study_are_compiled_in_one_process() -> None:
    """They share their graphs' number; past torch's limit one would go on without compiling."""
    arms = ["dense", "moe_4x", "mot", "mot_text_moe_4x", "untie_ffn", "untie_ffn_qkv"]
    batches = list(islice(random_batches(interface=CHAMELEON_SPEECH), 20))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        graphs = [_compilations(arm, CHAMELEON_SPEECH, batches, reset=False) for arm in arms]
    assert min(graphs) >= 1
    assert sum(graphs) > 8  # torch's own limit


def _compiling(module: MultimodalModule, reset: bool = True) -> CompileCounterWithBackend:
    """Counts the graphs that its blocks are compiled into."""
    if reset:
        torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    module.net.transformer.compile_blocks(counter)
    return counter


def _compilations(
    arm: str, interface: DataInterface, batches: list[MultimodalBatch], reset: bool = True
) -> int:
    module = MultimodalModule(ModelConfig(backbone=tiny_backbone()), interface, arm)
    counter = _compiling(module, reset)
    for batch in batches:
        module.losses(batch).total.backward()
    return counter.frame_count
