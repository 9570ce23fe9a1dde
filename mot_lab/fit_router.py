"""Fits auxiliary routers on a frozen model, so that its experts can be routed causally.

MoMa (arXiv 2407.21770, section 2.4): binary cross-entropy against the top-k assignment of training
routing. The routers of all layers learn from the same forward pass and do not touch each other.

Shapes: T tokens of a tower, D width, E experts.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.batch import MultimodalBatch
from mot_lab.causal_router import (
    CausalRouter,
    RouterConfig,
    RouterQuality,
    load_router,
    router_path,
    weights_digest,
)
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.model import MultimodalModel
from mot_lab.optim import OptimizerConfig, learning_rate
from mot_lab.trained import Trained, load_without_router
from mot_lab.training import Run

HELD_OUT = "val"


def fit_checkpoint(path: Path, config: RouterConfig, label: str = "") -> tuple[CausalRouter, bool]:
    """Fit the routers of a checkpoint's averaged weights into the file beside it.

    Args:
        path: of the checkpoint.
        config: how.
        label: shown by the progress bar; none without it.

    Returns:
        the routers, and whether they were fitted now: a file of the same weights and the same
        configuration is kept.

    Raises:
        ValueError: no checkpoint, or one of an arm without experts.
    """
    trained = load_without_router(path)
    if not trained.module.net.transformer.expert_choice():
        raise ValueError(f"{path} is of arm {trained.module.arm.name}, which has no experts")
    target = router_path(path)
    if (kept := _kept(target, trained, config)) is not None:
        return kept, False
    data = MultimodalDataModule(trained.data.config, config.seed)
    router = fit_router(
        trained.module.net,
        track(data.train_loader(config.steps), label, config.steps, disable=not label),
        data.held_out_loader(HELD_OUT),
        config,
        trained.step,
    )
    router.save(target)
    return router, True


def fit_run(run: Run) -> None:
    """Fit the routers of a trained run, unless that is done; in a worker process."""
    fit_checkpoint(run.checkpoint, run.config.router)


def _kept(path: Path, trained: Trained, config: RouterConfig) -> CausalRouter | None:
    if not path.exists():
        return None
    router = load_router(path)
    same = router.weights == weights_digest(trained.module.net) and router.config == config
    return router if same else None


def fit_router(
    net: MultimodalModel,
    batches: Iterable[MultimodalBatch],
    held_out: Iterable[MultimodalBatch],
    config: RouterConfig,
    step: int = 0,
) -> CausalRouter:
    """Fit one router for each expert-choice feed-forward; the network is only read.

    Args:
        net: with the weights that will be evaluated, in evaluation mode.
        batches: of training, one per step.
        held_out: batches to judge the routers on.
        config: how; ``steps`` must be the number of batches.
        step: of the training that gave these weights.

    Raises:
        FloatingPointError: a loss that is not finite.
    """
    device = next(net.parameters()).device
    generator = torch.Generator().manual_seed(config.seed)
    routers = {}
    for layer, tower, module in net.transformer.expert_choice():
        experts, width = module.router.weight.shape
        router = AuxiliaryRouter.random(width, experts, config.threshold, generator)
        routers[f"{layer}/{tower}"] = router.to(device)
    weights = [w.requires_grad_() for r in routers.values() for w in (r.into_DH, r.out_HE)]
    schedule = OptimizerConfig(config.lr, config.final_lr, warmup_steps=0)
    optimizer = torch.optim.AdamW(weights, weight_decay=0.0)
    for at, batch in enumerate(batches):
        losses = [
            F.binary_cross_entropy_with_logits(routers[name].logits(x_TD), taken_TE.float())
            for name, (x_TD, taken_TE) in training_routing(net, batch.to(device)).items()
        ]
        if not losses:  # no token of the towers that have experts
            continue
        loss = torch.stack(losses).sum()
        if not loss.isfinite():
            raise FloatingPointError(f"the loss of the routers is {loss.item()} at step {at}")
        optimizer.param_groups[0]["lr"] = learning_rate(schedule, at, config.steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for weight in weights:
        weight.requires_grad_(False)
    quality = router_quality(net, routers, held_out)
    return CausalRouter(routers, config, quality, weights_digest(net), step)


def router_quality(
    net: MultimodalModel,
    routers: dict[str, AuxiliaryRouter],
    batches: Iterable[MultimodalBatch],
) -> RouterQuality:
    """How far routers decide as top-k does, all layers' decisions together.

    Raises:
        ValueError: no token of the batches passes through experts.
    """
    device = next(net.parameters()).device
    right = decisions = both = ours = theirs = 0
    for batch in batches:
        for name, (x_TD, taken_TE) in training_routing(net, batch.to(device)).items():
            guess_TE = routers[name].takes(x_TD)
            right += int((guess_TE == taken_TE).sum())
            decisions += guess_TE.numel()
            both += int((guess_TE & taken_TE).sum())
            ours += int(guess_TE.sum())
            theirs += int(taken_TE.sum())
    if not decisions:
        raise ValueError("no held-out token passes through experts: routers cannot be judged")
    return RouterQuality(right / decisions, both / ours if ours else 0.0, both / theirs)


@torch.no_grad()
def training_routing(
    net: MultimodalModel, batch: MultimodalBatch
) -> dict[str, tuple[Tensor, Tensor]]:
    """What each main router reads [T, D] and what its experts take, bool [T, E], by
    ``layer/tower``; towers without a token in the batch are left out.
    """
    read: dict[str, Tensor] = {}
    experts = {f"{layer}/{tower}": m for layer, tower, m in net.transformer.expert_choice()}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: read.update({name: inputs[0]})
        )
        for name, module in experts.items()
    ]
    try:
        with net.transformer.routing("training"):
            net(batch)
    finally:
        for hook in hooks:
            hook.remove()
    routed = {}
    for name, module in experts.items():
        assert module.taken_TE is not None
        if len(module.taken_TE):
            routed[name] = read[name], module.taken_TE
    return routed
