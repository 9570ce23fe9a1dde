"""The text head is an embedding and an untied projection.

Shapes: L positions, D width, V vocabulary.
"""

import torch

from mot_lab.heads.autoregressive import AutoregressiveHead


def test_embeddings_and_logits() -> None:
    head = AutoregressiveHead(vocab_size=11, width=6)
    tokens_L = torch.tensor([3, 0, 10])
    assert torch.equal(head.embed(tokens_L), head.embedding.weight[tokens_L])
    hidden_LD = torch.randn(3, 6)
    torch.testing.assert_close(head.logits(hidden_LD), hidden_LD @ head.output.weight.T)
    assert head.embedding.weight.data_ptr() != head.output.weight.data_ptr()
    assert head.forward_flops(3) == 2 * 3 * 6 * 11
