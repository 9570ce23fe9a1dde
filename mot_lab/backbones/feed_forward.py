"""SwiGLU feed-forward (arXiv 2002.05202), as in Llama: no biases.

Shapes: T tokens, D width, F hidden width.
"""

from torch import Tensor, nn
from torch.nn import functional as F


def swiglu_hidden(width: int, multiple_of: int) -> int:
    """Llama's hidden width: two thirds of 4 D, rounded up to a multiple."""
    hidden = int(2 * 4 * width / 3)
    return -(-hidden // multiple_of) * multiple_of


class FeedForward(nn.Module):
    """``down(silu(gate(x)) * up(x))``; gate and up are one matrix product."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]."""
        gate_TF, up_TF = self.gate_up(x_TD).chunk(2, dim=-1)
        return self.down(F.silu(gate_TF) * up_TF)

    def forward_flops(self, tokens: float) -> float:
        """6 D F per token."""
        return 2 * tokens * (self.gate_up.weight.numel() + self.down.weight.numel())
