"""A network's parameters by what they are: the sizes that papers print count only some of them."""

from dataclasses import dataclass

from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.flops import count_parameters
from mot_lab.model import MultimodalModel


@dataclass(frozen=True)
class ParameterParts:
    """All parameters of a network; the parts add up to them.

    Attributes:
        matrices: of attention and feed-forward, in all towers and experts.
        embeddings: input and output, of the joint vocabulary.
        routers: of experts.
        norms: with the QK-norms and the final norm, and biases of Q, K and V where there are any.
        codec: between latents and tokens (Transfusion's is outside its sizes and its iso-FLOP
            claim).
    """

    matrices: int
    embeddings: int
    routers: int
    norms: int
    codec: int

    @property
    def size(self) -> int:
        """What the MoT paper's labels count ("443M"): matrices and embeddings. Its labels agree
        with this to the printed digit, but for Transfusion's nominal 760M.
        """
        return self.matrices + self.embeddings


def parameter_parts(model: MultimodalModel) -> ParameterParts:
    """The parts of a network, on any device, meta included."""
    backbone = model.transformer
    routers = sum(
        module.router.weight.numel()
        for module in backbone.modules()
        if isinstance(module, ExpertChoice)
    )
    return ParameterParts(
        matrices=sum(p.numel() for p in backbone.parameters() if p.dim() > 1) - routers,
        embeddings=count_parameters(model.autoregressive),
        routers=routers,
        norms=sum(p.numel() for p in backbone.parameters() if p.dim() == 1),
        codec=0 if model.diffusion is None else count_parameters(model.diffusion),
    )
