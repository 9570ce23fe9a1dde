"""Dense copied into every tower and expert of another arm.

Without experts the arm has Dense's function: each token meets the same weights, whatever its
tower. An expert is Dense's feed-forward times 1 / g, where g is the gate of a router of zeros (1/2
for ``sigmoid``, 1 / E for ``softmax``): a token that one expert takes gets Dense's output times its
gate over g. The router starts as ever, small and random (sparse upcycling, Komatsuzaki et al.,
arXiv 2212.05055), so that gates are near g; but expert choice gives a token to several experts, or
to none, and then the output is a multiple of Dense's, or zero. The arm as a whole therefore starts
near Dense, not as Dense.
"""

from collections.abc import Iterator

import torch
from torch import nn

from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer import Transformer
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import WEIGHT_KINDS, Wiring


def is_dense(wiring: Wiring) -> bool:
    """Whether all modalities share one tower of every kind, without experts."""
    single = all(len(getattr(wiring, kind)) == 1 for kind in WEIGHT_KINDS)
    return single and not wiring.experts


def require_same_backbone(ours: TransformerConfig, theirs: TransformerConfig, where: str) -> None:
    """Raises ValueError that says which settings the backbone must have to begin from another."""
    if wrong := _differences(ours, theirs):
        raise ValueError(
            f"model.backbone has other {', '.join(wrong)} than {where}, which it starts from: "
            f"give backbone {{{', '.join(f'{k}: {v}' for k, v in _settings(theirs).items())}}}"
        )


@torch.no_grad()
def copy_into_towers(dense: Transformer, arm: Transformer) -> None:
    """Give every tower and expert of an arm the weights of Dense; routers stay as they are.

    Args:
        dense: of any modalities, in any precision.
        arm: of any wiring, with the same backbone.

    Raises:
        ValueError: ``dense`` has several towers or experts, or another backbone.
    """
    if not is_dense(dense.wiring):
        raise ValueError(
            "only Dense can be copied into towers and experts: the model to start from has "
            f"several towers or experts ({dense.wiring})"
        )
    require_same_backbone(arm.config, dense.config, "the model")
    for theirs, ours in zip(_towers(dense), _towers(arm), strict=True):
        (source,) = theirs.tower.values()
        for module in ours.tower.values():
            if isinstance(module, ExpertChoice):
                assert isinstance(source, FeedForward)
                _fill_experts(module, source)
            else:
                module.load_state_dict(source.state_dict())


def gate_of_zeros(experts: ExpertChoice) -> float:
    """The gate of every expert under a router of zeros."""
    return 0.5 if experts.gate == "sigmoid" else 1 / experts.router.out_features


def _fill_experts(experts: ExpertChoice, feed_forward: FeedForward) -> None:
    experts.gate_up_EDF.copy_(feed_forward.gate_up.weight.t().expand_as(experts.gate_up_EDF))
    down_FD = feed_forward.down.weight.t() / gate_of_zeros(experts)
    experts.down_EFD.copy_(down_FD.expand_as(experts.down_EFD))


def _towers(transformer: nn.Module) -> Iterator[Towers]:
    return (module for module in transformer.modules() if isinstance(module, Towers))


def _settings(config: TransformerConfig) -> dict[str, object]:
    """What decides a backbone's function and shapes, what is left out filled in."""
    _, kv_heads, head_width = config.head_shape
    settings: dict[str, object] = {
        "width": config.width,
        "layers": config.layers,
        "heads": config.heads,
        "kv_heads": kv_heads,
        "head_width": head_width,
        "qkv_bias": str(config.qkv_bias).lower(),
        "feed_forward_width": config.hidden,
        "norm": config.norm,
        "norm_eps": config.norm_eps,
        "qk_norm": config.qk_norm,
        "rope_base": config.rope_base,
    }
    if config.qk_norm != "none":
        settings["qk_norm_eps"] = config.qk_norm_eps
    return settings


def _differences(ours: TransformerConfig, theirs: TransformerConfig) -> list[str]:
    mine, other = _settings(ours), _settings(theirs)
    return [name for name, value in other.items() if mine.get(name) != value]
