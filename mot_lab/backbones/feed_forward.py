"""SwiGLU feed-forward (arXiv 2002.05202), as in Llama: no biases.

Shapes: T tokens, D width, F hidden width.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mot_lab.backbones.fused_feed_forward import FusedFeedForward
from mot_lab.backbones.written_out import grouped_linear, is_written_out, swiglu


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
        return self.together([self], x_TD, [len(x_TD)])

    @staticmethod
    def together(each: Sequence["FeedForward"], x_TD: Tensor, sizes: Sequence[int]) -> Tensor:
        """Several of one shape, each on its own rows: [T, D] -> [T, D]."""
        gate_up = [one.gate_up.weight for one in each]
        down = [one.down.weight for one in each]
        if is_written_out(x_TD):
            return FusedFeedForward.apply(x_TD, sizes, *gate_up, *down)
        return grouped_linear(swiglu(grouped_linear(x_TD, sizes, gate_up)), sizes, down)

    def forward_flops(self, tokens: float) -> float:
        """6 D F per token."""
        return 2 * tokens * (self.gate_up.weight.numel() + self.down.weight.numel())
