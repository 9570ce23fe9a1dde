"""Expert-choice mixture of experts (Zhou et al., arXiv 2202.09368; gate as in MoMa, 2407.21770).

Each expert picks its k = n / E highest-scoring tokens, so the FLOPs equal the dense feed-forward's.
The choice looks at all tokens at once, later ones too: losses under this training routing leak, and
nothing may be generated with it. Causal routing leaves the choice to an auxiliary router that reads
each token alone (`mot_lab.backbones.auxiliary_router`).

Where several processes train together, each may choose among its own tokens or all among those of
all processes (`mot_lab.distributed.routing`); the second is what one process alone would choose.

Shapes: T tokens of the tower, D width, F hidden width, E experts, K tokens per expert under
training routing, P pairs of an expert and a token that it takes, R processes, C cells of the tower.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.auxiliary_router import AuxiliaryRouter, without_autocast
from mot_lab.backbones.written_out import grouped_matmul, swiglu
from mot_lab.distributed.routing import best, taken_of_all

FEW = 8  # tokens, up to which every expert called reads all of them


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
        auxiliary: decides under causal routing; None until one was fitted. It is no weight of the
            network: training and its checkpoints know nothing of it.
        causal: whether ``auxiliary`` decides (`Transformer.routing` sets it).
        taken_TE: bool, which expert took which token in the last forward pass.
        sizes_of_all: says of the next forward pass the tower's tokens on every process by cell
            [R, C], where experts choose among those of all; None where they choose among this
            process's.
    """

    def __init__(self, width: int, hidden: int, experts: int, gate: str) -> None:
        super().__init__()
        self.gate = gate
        self.router = nn.Linear(width, experts, bias=False)
        self.gate_up_EDF = nn.Parameter(torch.empty(experts, width, 2 * hidden))
        self.down_EFD = nn.Parameter(torch.empty(experts, hidden, width))
        self.auxiliary: AuxiliaryRouter | None = None
        self.causal = False
        self.taken_TE: Tensor | None = None
        self.sizes_of_all: Callable[[], Sequence[Sequence[int]]] | None = None

    def scores(self, x_TD: Tensor) -> Tensor:
        """Router scores [T, E] in fp32 at least: ties in bf16 would make top-k arbitrary."""
        precision = torch.promote_types(x_TD.dtype, torch.float32)
        with without_autocast(x_TD):
            logits_TE = F.linear(x_TD.to(precision), self.router.weight.to(precision))
        return logits_TE.sigmoid() if self.gate == "sigmoid" else logits_TE.softmax(dim=-1)

    def forward(self, x_TD: Tensor) -> Tensor:
        """[T, D] -> [T, D]; a token that no expert took gets zeros, under either routing."""
        if self.causal:
            return self._causal(x_TD)
        if self.sizes_of_all is None:
            return self._training(x_TD)
        return self._of_all(x_TD, self.sizes_of_all())

    def _training(self, x_TD: Tensor) -> Tensor:
        """Every expert takes its k best tokens."""
        tokens, width = x_TD.shape
        experts = self.router.out_features
        k = capacity(tokens, experts)
        score_TE = self.scores(x_TD)
        chosen_EK = best(score_TE, k)
        score_EK = score_TE.t().gather(1, chosen_EK)
        chosen = chosen_EK.flatten()
        x_EKD = x_TD.index_select(0, chosen).view(experts, k, width)
        y_EKD = _swiglu(x_EKD, self.gate_up_EDF, self.down_EFD)
        y_EKD = y_EKD * score_EK[..., None].to(y_EKD.dtype)
        taken_ET = torch.zeros(experts, tokens, dtype=torch.bool, device=x_TD.device)
        self.taken_TE = taken_ET.scatter_(1, chosen_EK, True).t()
        return torch.zeros_like(x_TD).index_add(0, chosen, y_EKD.view(-1, width).to(x_TD.dtype))

    def _causal(self, x_TD: Tensor) -> Tensor:
        """The auxiliary router says which experts a token goes to, the main router's scores weigh
        them (MoMa, section 2.4). A token's output depends on that token alone.
        """
        assert self.auxiliary is not None, "Transformer.routing refuses this"
        taken_TE = self.auxiliary.takes(x_TD)
        if len(x_TD) <= FEW and not torch.is_grad_enabled():
            return self._of_few(x_TD, taken_TE)
        return self._taken(x_TD, self.scores(x_TD), taken_TE)

    def _of_few(self, x_TD: Tensor, taken_TE: Tensor) -> Tensor:
        """`_taken` while text is written, without gradients: an expert that anyone goes to reads
        them all. To read its weights takes as long, and sorting tokens longer.
        """
        self.taken_TE = taken_TE
        y_TD = torch.zeros_like(x_TD)
        called = [e for e, taken in enumerate(taken_TE.any(0).tolist()) if taken]
        if called:
            score_TE = self.scores(x_TD)
            for e in called:
                own_TD = _swiglu(x_TD, self.gate_up_EDF[e], self.down_EFD[e])
                own_TD = own_TD * score_TE[:, e, None].to(own_TD.dtype)
                y_TD += torch.where(taken_TE[:, e, None], own_TD, 0)
        return y_TD

    def _of_all(self, x_TD: Tensor, sizes_RC: Sequence[Sequence[int]]) -> Tensor:
        """Every expert takes its k best tokens of all processes, and works on those of this one.

        How many that are the host must know, and waits for the device.
        """
        score_TE = self.scores(x_TD)
        k = capacity(sum(map(sum, sizes_RC)), self.router.out_features)
        return self._taken(x_TD, score_TE, taken_of_all(score_TE, sizes_RC, k))

    def _taken(self, x_TD: Tensor, score_TE: Tensor, taken_TE: Tensor) -> Tensor:
        """Every expert's output for what it took, weighed by the scores. The weights of one that
        took nothing have a gradient all the same, zero, on every process.
        """
        self.taken_TE = taken_TE
        expert_P, place_P = taken_TE.t().nonzero(as_tuple=True)  # expert after expert
        rows = torch.bincount(expert_P, minlength=self.router.out_features).tolist()
        x_PD = x_TD.index_select(0, place_P)
        gate_up_P2F = grouped_matmul(x_PD, rows, self.gate_up_EDF)
        y_PD = grouped_matmul(swiglu(gate_up_P2F), rows, self.down_EFD)
        score_P = score_TE.flatten().index_select(0, place_P * len(rows) + expert_P)
        y_PD = y_PD * score_P[:, None].to(y_PD.dtype)
        return torch.zeros_like(x_TD).index_add(0, place_P, y_PD.to(x_TD.dtype))

    def forward_flops(self, tokens: float) -> float:
        """The dense feed-forward's (n / E tokens in each of E experts) and the router's 2 D E."""
        experts = self.router.out_features
        expert_weights = (self.gate_up_EDF.numel() + self.down_EFD.numel()) / experts
        return 2 * tokens * (expert_weights + self.router.weight.numel())


def _swiglu(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """[.., D] -> [.., D], of one expert or, with a leading axis E everywhere, of all."""
    return swiglu(x @ gate_up.to(x.dtype)) @ down.to(x.dtype)
