"""One transformer for every arm; only its `Wiring` differs.

Shapes: B rows, S positions, T tokens in grouped order, D width.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mot_lab.backbones.attending import Kernel, attended, chosen_kernel
from mot_lab.backbones.attention import Attention, AttentionContext, HeadShape, rotary_angles
from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.feed_forward import FeedForward, swiglu_hidden
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.wiring import Wiring
from mot_lab.distributed.ranks import gathering, ranks
from mot_lab.limits import require_between, require_positive

if TYPE_CHECKING:
    from mot_lab.backbones.cache import LayerCache

Routing = Literal["training", "causal"]
ExpertGroup = Literal["global", "rank"]

# Upper bounds far above the paper's 7B (width 4,096, 32 layers).
MOST_WIDTH = 65_536
MOST_LAYERS = 512
MOST_ROPE_BASE = 1e12

NO_CAUSAL_ROUTING = (
    "not available: expert-choice routing looks at later tokens and at other rows, and no causal "
    "router was fitted; run `mot-lab fit-router` on the checkpoint"
)


@dataclass
class TransformerConfig:
    """Size and switches of the backbone, the same for every arm of a study.

    Attributes:
        width: D.
        layers: number of blocks.
        heads: attention heads; the width must be a multiple of twice this number (RoPE).
        kv_heads: heads of keys and values, each shared by as many query heads (grouped-query
            attention, arXiv 2305.13245); left out, as many as heads.
        head_width: of each head, an even number; left out, width / heads.
        qkv_bias: biases of the Q, K and V projections (Qwen2).
        feed_forward_multiple: SwiGLU's hidden width is 2/3 * 4 D rounded up to a multiple of this
            (256 gives the paper's sizes).
        feed_forward_width: that hidden width itself; left out, as the multiple says.
        norm: ``pre`` (Llama, Transfusion) or ``post`` (Swin, as printed in Eq. 1-2 of MoT).
        norm_eps: epsilon of the RMS norms.
        qk_norm: ``layer`` (Chameleon), ``rms`` (Qwen3) or ``none``.
        qk_norm_eps: epsilon of the QK-norms.
        rope_base: RoPE's base.
        gate: of expert-choice towers, ``sigmoid`` (MoMa) or ``softmax`` (Expert Choice).
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None
    head_width: int | None = None
    qkv_bias: bool = False
    feed_forward_multiple: int = 256
    feed_forward_width: int | None = None
    norm: Literal["pre", "post"] = "pre"
    norm_eps: float = 1e-5
    qk_norm: Literal["layer", "rms", "none"] = "layer"
    qk_norm_eps: float = 1e-5
    rope_base: float = 10_000.0
    gate: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        require_between(self, 1, MOST_WIDTH, "width", "heads", "feed_forward_multiple")
        require_between(self, 1, MOST_LAYERS, "layers")
        require_positive(self, 1, "norm_eps", "qk_norm_eps")
        require_between(self, 1, MOST_ROPE_BASE, "rope_base")
        for name in ("kv_heads", "head_width", "feed_forward_width"):
            if getattr(self, name) is not None:
                require_between(self, 1, MOST_WIDTH, name)
        if self.head_width is None and self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 * heads = {2 * self.heads} (RoPE), "
                f"heads {self.heads}"
            )
        if self.head_width is not None and self.head_width % 2:
            raise ValueError(f"head_width {self.head_width} must be even (RoPE)")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.heads}")

    @property
    def head_shape(self) -> HeadShape:
        """The heads, with what is left out filled in."""
        kv_heads = self.heads if self.kv_heads is None else self.kv_heads
        head_width = self.width // self.heads if self.head_width is None else self.head_width
        return HeadShape(self.heads, kv_heads, head_width)

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward."""
        if self.feed_forward_width is not None:
            return self.feed_forward_width
        return swiglu_hidden(self.width, self.feed_forward_multiple)


class Block(nn.Module):
    """Attention and feed-forward with their norms, each wired by the arm."""

    def __init__(self, config: TransformerConfig, wiring: Wiring) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"

        def norm(_: str) -> nn.Module:
            return nn.RMSNorm(config.width, eps=config.norm_eps)

        def feed_forward(tower: str) -> nn.Module:
            experts = wiring.experts.get(tower)
            if experts is None:
                return FeedForward(config.width, config.hidden)
            return ExpertChoice(config.width, config.hidden, experts, config.gate)

        self.attention = Attention(config, wiring)
        self.attention_norm = Towers(wiring, "norms", norm)
        self.feed_forward = Towers(wiring, "feed_forward", feed_forward)
        self.feed_forward_norm = Towers(wiring, "norms", norm)

    def forward(
        self,
        x_TD: Tensor,
        groups: TokenGroups,
        context: AttentionContext,
        cache: "LayerCache | None" = None,
    ) -> Tensor:
        """[T, D] -> [T, D], both in grouped order."""
        if self.pre_norm:
            x_TD = x_TD + self.attention(self.attention_norm(x_TD, groups), groups, context, cache)
            return x_TD + self.feed_forward(self.feed_forward_norm(x_TD, groups), groups)
        x_TD = x_TD + self.attention_norm(self.attention(x_TD, groups, context, cache), groups)
        return x_TD + self.feed_forward_norm(self.feed_forward(x_TD, groups), groups)

    def forward_flops(self, modality: str, tokens: float, pairs: float) -> float:
        """FLOPs of one forward pass for a modality's tokens and its query-key pairs."""
        feed_forward = self.feed_forward.of(modality)
        assert isinstance(feed_forward, FeedForward | ExpertChoice)
        return self.attention.forward_flops(tokens, pairs) + feed_forward.forward_flops(tokens)


class Transformer(nn.Module):
    """The backbone of every arm: blocks and a final norm.

    Args:
        config: size and switches.
        wiring: which modalities share which weights.

    Attributes:
        recompute: keep no more of a block for the backward pass than its input, and compute the
            rest again (activation checkpointing): memory for about a third more time.
        kernel: of attention (`mot_lab.backbones.attending`).
        compiled: whether the blocks are.
        expert_group: where several processes train together, experts choose among the tokens of
            all (``global``) or each process's among its own (``rank``).
    """

    def __init__(self, config: TransformerConfig, wiring: Wiring) -> None:
        super().__init__()
        self.config = config
        self.wiring = wiring
        self.recompute = False
        self.kernel: Kernel = "auto"
        self.compiled = False
        self.expert_group: ExpertGroup = "global"
        self.blocks = nn.ModuleList(Block(config, wiring) for _ in range(config.layers))
        self.final_norm = Towers(
            wiring, "norms", lambda _: nn.RMSNorm(config.width, eps=config.norm_eps)
        )
        self.reset_parameters()

    @property
    def layers(self) -> list[Block]:
        """The blocks, as what they are."""
        return cast(list[Block], list(self.blocks))

    def reset_parameters(self) -> None:
        """Normal(0, 0.02); projections onto the residual stream scaled by 1 / sqrt(2 layers)
        (GPT-2), in every tower and expert alike; biases 0."""
        residual = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if parameter.is_meta:  # of a count: nothing to draw, and it took half of the time
                continue
            if parameter.dim() > 1:
                onto_residual = ".out." in name or ".down" in name
                nn.init.normal_(parameter, std=residual if onto_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def context(
        self, groups: TokenGroups, document_BS: Tensor, image_BS: Tensor, position_BS: Tensor
    ) -> AttentionContext:
        """Places of attention, masks and rotary angles of a batch; the angles have the precision of
        the weights."""
        position_T = groups.group(position_BS.flatten()[:, None])[:, 0]
        head_width = self.config.head_shape.width
        angles = rotary_angles(position_T, head_width, self.config.rope_base)
        dtype = next(self.parameters()).dtype
        cos_T1E, sin_T1E = (angle.to(dtype) for angle in angles)
        kernel = chosen_kernel(
            self.kernel, document_BS.shape[1], document_BS.is_cuda, self.compiled
        )
        at = attended(kernel, groups, document_BS, image_BS, dtype)
        return AttentionContext(at, cos_T1E, sin_T1E)

    def forward(
        self,
        x_TD: Tensor,
        groups: TokenGroups,
        context: AttentionContext,
        cache: "Sequence[LayerCache] | None" = None,
    ) -> Tensor:
        """[T, D] -> [T, D], both in grouped order, final norm included.

        Args:
            x_TD, groups, context: of the tokens.
            cache: of each layer, where rows go on (`mot_lab.backbones.cache`); None in training.
        """
        recompute = self.recompute and cache is None and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            if recompute:
                # Nothing in a block is drawn at random. Experts choose again what they chose.
                x_TD = checkpoint(
                    block, x_TD, groups, context, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_TD = block(x_TD, groups, context, None if cache is None else cache[layer])
        return self.final_norm(x_TD, groups)

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """`torch.compile` every block in place. They share one graph, which takes seconds where
        that of a whole network takes a minute, and runs faster (`docs/speed.md`). Of any shape: the
        mix of modalities changes from batch to batch.
        """
        self.compiled = True
        for block in self.layers:
            block.compile(backend=backend, dynamic=True)

    def expert_choice(self) -> list[tuple[int, str, ExpertChoice]]:
        """Every expert-choice feed-forward as (layer, tower, module)."""
        return [
            (layer, tower, module)
            for layer, block in enumerate(self.layers)
            for tower, module in block.feed_forward.tower.items()
            if isinstance(module, ExpertChoice)
        ]

    def share_experts(self, groups: TokenGroups | None) -> None:
        """Say among which tokens the experts of the next forward pass choose: those of all
        processes, if their group is ``global``, else this one's.

        Args:
            groups: of this process's tokens, where all processes call this; None where one is at
                work alone.
        """
        modules = self.expert_choice()
        of_all = groups is not None and self.expert_group == "global" and ranks() > 1
        # Known by the time that the first expert asks: nobody waits here.
        of_cells = gathering(groups.sizes) if modules and groups is not None and of_all else None
        for layer, tower, module in modules:
            towers = self.layers[layer].feed_forward
            cells = towers.cells[list(towers.tower).index(tower)]
            module.sizes_of_all = of_cells and partial(_of_tower, of_cells, cells)

    def set_auxiliary_routers(self, routers: Mapping[str, AuxiliaryRouter]) -> None:
        """Give every expert-choice feed-forward its router, by ``layer/tower``.

        Raises:
            ValueError: there is not exactly one for each.
        """
        modules = {f"{layer}/{tower}": module for layer, tower, module in self.expert_choice()}
        if routers.keys() != modules.keys():
            raise ValueError(f"routers for {sorted(routers)}, experts in {sorted(modules)}")
        for name, module in modules.items():
            module.auxiliary = routers[name]

    def can_route_causally(self) -> bool:
        """Whether no token needs another one's scores: no experts, or all with their routers."""
        return all(module.auxiliary is not None for _, _, module in self.expert_choice())

    @contextmanager
    def routing(self, kind: Routing) -> Iterator[None]:
        """Inside, experts get their tokens by this routing; after, as before.

        Without experts it changes nothing.

        Args:
            kind: ``training`` (top-k over all tokens of the batch, the default outside) or
                ``causal`` (by the auxiliary routers).

        Raises:
            ValueError: causal routing where no routers were fitted.
        """
        if kind == "causal" and not self.can_route_causally():
            raise ValueError(NO_CAUSAL_ROUTING)
        modules = [module for _, _, module in self.expert_choice()]
        before = [module.causal for module in modules]
        for module in modules:
            module.causal = kind == "causal"
        try:
            yield
        finally:
            for module, causal in zip(modules, before, strict=True):
                module.causal = causal


def _of_tower(
    of_cells: Callable[[], list[list[int]]], cells: Sequence[int]
) -> Sequence[Sequence[int]]:
    """Of the tokens of every process by cell, those of a tower's cells."""
    return [[sizes[cell] for cell in cells] for sizes in of_cells()]
