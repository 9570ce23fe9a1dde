"""Expert-choice mixture of experts (Zhou et al., arXiv 2202.09368; gate as in MoMa, 2407.21770).

Each expert picks its k = n / E highest-scoring tokens, so the FLOPs equal the dense feed-forward's.
The choice looks at all tokens at once, later ones too: losses under this routing leak, and nothing
may be generated with it.

Shapes: T tokens of the tower, D width, F hidden width, E experts, K tokens per expert.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def capacity(tokens: int, experts: int) -> int:
    """Tokens per expert, n / E rounded to nearest (half up), never more than n.

    At least one where there are tokens, so that fewer tokens than experts are still served.
    """
    return min(tokens, max(1, (2 * tokens + experts) // (2 * experts))) if tokens else 0


class ExpertChoice(nn.Module):
    """A feed-forward of E experts; every expert chooses its tokens.

    Args:
        width, hidden: of each expert, those of the dense feed-forward.
        experts: E.
        gate: ``sigmoid`` (MoMa, same group as the MoT paper) or ``softmax`` over experts (Expert
            Choice paper).

    Attributes:
        routed_T: bool, tokens that at least one expert chose in the last forward pass.
    """

    def __init__(self, width: int, hidden: int, experts: int, gate: str) -> None:
        super().__init__()
        self.gate = gate
        self.router = nn.Linear(width, experts, bias=False)
        self.gate_up_EDF = nn.Parameter(torch.empty(experts, width, 2 * hidden))
        self.down_EFD = nn.Parameter(torch.empty(experts, hidden, width))
        self.routed_T: Tensor | None = None

    def scores(self, x_TD: Tensor) -> Tensor:
        """Router scores [T, E] in fp32 at least: ties in bf16 would make top-k arbitrary."""
        precision = torch.promote_types(x_TD.dtype, torch.float32)
        with torch.autocast(x_TD.device.type, enabled=False):
            logits_TE = F.linear(x_TD.to(precision), self.router.weight.to(precision))
        return logits_TE.sigmoid() if self.gate == "sigmoid" else logits_TE.softmax(dim=-1)

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]; a token that no expert chose gets zeros."""
        tokens, width = x_TD.shape
        experts = self.router.out_features
        k = capacity(tokens, experts)
        score_EK, chosen_EK = self.scores(x_TD).t().topk(k, dim=1)
        chosen = chosen_EK.flatten()
        x_EKD = x_TD.index_select(0, chosen).view(experts, k, width)
        gate_EKF, up_EKF = torch.bmm(x_EKD, self.gate_up_EDF.to(x_EKD.dtype)).chunk(2, dim=-1)
        y_EKD = torch.bmm(F.silu(gate_EKF) * up_EKF, self.down_EFD.to(x_EKD.dtype))
        y_EKD = y_EKD * score_EK[..., None].to(y_EKD.dtype)
        routed_T = torch.zeros(tokens, dtype=torch.bool, device=x_TD.device)
        self.routed_T = routed_T.index_fill(0, chosen, True)
        return torch.zeros_like(x_TD).index_add(0, chosen, y_EKD.view(-1, width).to(x_TD.dtype))

    def forward_flops(self, tokens: float) -> float:
        """The dense feed-forward's (n / E tokens in each of E experts) and the router's 2 D E."""
        experts = self.router.out_features
        expert_weights = (self.gate_up_EDF.numel() + self.down_EFD.numel()) / experts
        return 2 * tokens * (expert_weights + self.router.weight.numel())
