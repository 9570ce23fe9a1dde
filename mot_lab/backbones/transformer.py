"""One transformer for every arm; only its `Wiring` differs.

Shapes: B rows, S positions, T tokens in grouped order, D width.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mot_lab.backbones.attending import Kernel, attended, chosen_kernel
from mot_lab.backbones.attention import Attention, AttentionContext, rotary_angles
from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.compilation import compile_in_place
from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import Wiring
from mot_lab.distributed.ranks import gathering, ranks

if TYPE_CHECKING:
    from mot_lab.backbones.cache import LayerCache

Routing = Literal["training", "causal"]
ExpertGroup = Literal["global", "rank"]

NO_CAUSAL_ROUTING = (
    "not available: expert-choice routing looks at later tokens and at other rows, and no causal "
    "router was fitted; run `mot-lab fit-router` on the checkpoint"
)


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
        """Compile every block in place (`mot_lab.backbones.compilation`)."""
        self.compiled = True
        compile_in_place(self.layers, backend)

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
