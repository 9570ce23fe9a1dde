"""Next-token prediction over the joint vocabulary.

Shapes: L predicted positions, D width, V vocabulary.
"""

from torch import Tensor, nn


class AutoregressiveHead(nn.Module):
    """Token embedding and output projection, untied, one joint vocabulary of all discrete
    modalities for all towers."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.output = nn.Linear(width, vocab_size, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.output.weight, std=0.02)

    def embed(self, token: Tensor) -> Tensor:
        """int64 [...] -> [..., D]."""
        return self.embedding(token)

    def logits(self, hidden_LD: Tensor) -> Tensor:
        """[L, D] -> [L, V]."""
        return self.output(hidden_LD)

    def forward_flops(self, predictions: float) -> float:
        """2 D V per predicted position; looking up an embedding costs none."""
        return 2 * predictions * self.output.weight.numel()
