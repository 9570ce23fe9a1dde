"""The auxiliary router of MoMa: which experts a token goes to, from that token alone.

Shapes: T tokens, D width, H = D / 2 hidden width, E experts.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Inside, operations on such a tensor have its precision. Where they have it anyway nothing is
    entered: that would take as long as a token's scores."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


@dataclass(frozen=True, eq=False)
class AuxiliaryRouter:
    """``Sigmoid(SiLU(x W1) W2) > threshold`` (MoMa, arXiv 2407.21770, section 2.4).

    Plain tensors and no module: it stands beside a trained network and is none of its weights.

    Attributes:
        into_DH, out_HE: W1 and W2, without biases.
        threshold: a token goes to each expert whose score is above it.
    """

    into_DH: Tensor
    out_HE: Tensor
    threshold: float = 0.5

    @classmethod
    def random(
        cls, width: int, experts: int, threshold: float, generator: torch.Generator
    ) -> "AuxiliaryRouter":
        """Weights of variance 1 / inputs, in fp32, to be fitted."""
        hidden = max(width // 2, 1)
        into_DH = torch.randn(width, hidden, generator=generator) / width**0.5
        out_HE = torch.randn(hidden, experts, generator=generator) / hidden**0.5
        return cls(into_DH, out_HE, threshold)

    def logits(self, x_TD: Tensor) -> Tensor:
        """Scores before the sigmoid [T, E], in fp32 at least, as the main router's."""
        precision = torch.promote_types(x_TD.dtype, torch.float32)
        into_DH, out_HE = (w.to(x_TD.device, precision) for w in (self.into_DH, self.out_HE))
        with without_autocast(x_TD):
            return F.silu(x_TD.to(precision) @ into_DH) @ out_HE

    def takes(self, x_TD: Tensor) -> Tensor:
        """bool [T, E]: the experts each token goes to; none, one or several."""
        return self.logits(x_TD).sigmoid() > self.threshold

    def to(self, device: torch.device) -> "AuxiliaryRouter":
        """The same weights on another device."""
        return AuxiliaryRouter(self.into_DH.to(device), self.out_HE.to(device), self.threshold)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.into_DH.numel() + self.out_HE.numel()
