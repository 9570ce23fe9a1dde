"""``compile: true``: blocks are compiled once, for all layers and batches."""

from itertools import islice

import torch
from factories import INTERFACE, assert_same_gradients, random_batches, tiny_backbone
from torch._dynamo.testing import CompileCounterWithBackend

from mot_lab.module import ModelConfig, MultimodalModule


def test_one_compilation_serves_fifty_batches_of_changing_mix() -> None:
    """Batches with fewer than two images are left out: torch compiles sizes 0 and 1 apart."""
    config = ModelConfig(backbone=tiny_backbone(layers=3))
    compiled, plain = (MultimodalModule(config, INTERFACE, "mot") for _ in range(2))
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled.net.transformer.compile_blocks(counter)
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
