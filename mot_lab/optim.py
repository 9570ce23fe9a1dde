"""AdamW with decay groups, and learning-rate schedules."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mot_lab.limits import MOST_STEPS, require_between, require_positive

MOST_LR = 10.0  # AdamW moves a weight by about this much a step
MOST_DECAY = 100.0


@dataclass
class OptimizerConfig:
    """The optimiser, the same for every arm of a study that does not override it.

    The defaults are Transfusion's (MoT, section 3.4.1): AdamW .9 / .95 / 1e-8, 3e-4 -> 1.5e-5
    cosine, 4,000 warm-up steps, weight decay .1; gradients are clipped at norm 1 by the Trainer.

    Attributes:
        lr: peak learning rate.
        final_lr: at the last step.
        warmup_steps: linear to the peak; the first step has ``lr / warmup_steps``.
        schedule: ``cosine`` (Transfusion) or ``linear`` (MoMa, taken for Chameleon).
        betas, eps, weight_decay: of AdamW; decay holds for matrices only, not for norms,
            biases and embeddings.
    """

    lr: float = 3e-4
    final_lr: float = 1.5e-5
    warmup_steps: int = 4000
    schedule: Literal["cosine", "linear"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        require_positive(self, MOST_LR, "lr")
        if not 0 <= self.final_lr <= self.lr:
            raise ValueError(
                f"final_lr {self.final_lr} must be at least 0 and at most lr {self.lr}"
            )
        require_between(self, 0, MOST_STEPS, "warmup_steps")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must each be at least 0 and below 1")
        require_positive(self, 1, "eps")
        require_between(self, 0, MOST_DECAY, "weight_decay")


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Learning rate of step 0, 1, ..; after the last step it stays at ``final_lr``."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    decay_steps = max(total_steps - config.warmup_steps, 1)
    progress = min((step - config.warmup_steps) / decay_steps, 1.0)
    if config.schedule == "cosine":
        remaining = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        remaining = 1 - progress
    return config.final_lr + (config.lr - config.final_lr) * remaining


def make_optimizer(
    model: nn.Module, config: OptimizerConfig, total_steps: int
) -> tuple[AdamW, LambdaLR]:
    """AdamW of all weights that are trained and its schedule, to be stepped once per optimiser
    step.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.dim() > 1 and id(parameter) not in embeddings
        (decay if matrix else no_decay).append(parameter)
    optimizer = AdamW(
        [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": no_decay, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )
    schedule = LambdaLR(
        optimizer, lambda step: learning_rate(config, step, total_steps) / config.lr
    )
    return optimizer, schedule


def weights_of(optimizer: Optimizer) -> list[Tensor]:
    """All that an optimiser trains, group by group."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]
