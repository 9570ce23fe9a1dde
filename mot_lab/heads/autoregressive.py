"""Next-token prediction over the joint vocabulary.

Shapes: L predicted positions, D width, V vocabulary.
"""

from torch import Tensor, nn
from torch.nn import functional as F

# Tokens whose logits are held at once: of 64 to 1,024 the fastest (`experiments/LOG.md`).
CHUNK = 256


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

    def nats(self, hidden_LD: Tensor, target_L: Tensor) -> Tensor:
        """Sum of the cross entropies of [L, D] with their targets, 0-dim, without holding all
        logits: they are made a few tokens at a time, and their gradients with them. Not under
        autocast, where the sum would have bf16's three digits.
        """
        # torch has it since 2.13; of no tokens at all it cannot be asked.
        if not len(target_L) or not hasattr(F, "linear_cross_entropy"):
            return F.cross_entropy(self.logits(hidden_LD), target_L, reduction="sum")
        options = nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK)
        return F.linear_cross_entropy(
            hidden_LD, self.output.weight, target_L, reduction="sum", options=options
        )

    def forward_flops(self, predictions: float) -> float:
        """2 D V per predicted position; looking up an embedding costs none."""
        return 2 * predictions * self.output.weight.numel()
