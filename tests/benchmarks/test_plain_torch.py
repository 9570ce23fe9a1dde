"""The plain twin of Dense, which step times are held against, is the same function."""

import torch
from factories import INTERFACE, assert_close, random_batches, tiny_backbone

from benchmarks.plain_torch import PlainDense
from mot_lab.module import ModelConfig, MultimodalModule


def test_loss_and_gradients_of_the_plain_twin_are_those_of_dense() -> None:
    config = ModelConfig(backbone=tiny_backbone())
    dense = MultimodalModule(config, INTERFACE, "dense")
    plain = PlainDense(dense.net)
    batch = next(each for each in random_batches() if each.num_images)
    losses = []
    gradients = []
    for loss in (dense.losses(batch).total, plain(batch)):
        dense.zero_grad()
        losses.append(loss)
        loss.backward()
        of = plain.pairs(dense.net)
        gradients.append([pair[len(gradients) == 0].grad.clone() for pair in of])
        gradients[-1] += [p.grad.clone() for p in plain.head.parameters()]
    assert_close(losses[1], losses[0], 1e-6)
    assert len(of) + len(list(plain.head.parameters())) == len(list(dense.net.parameters()))
    for actual, expected in zip(gradients[1], gradients[0], strict=True):
        assert_close(actual, expected, 1e-4, floor=1e-3)
    assert max(each.abs().max() for each in gradients[0]) > 0.01
    assert torch.isfinite(losses[1])
