"""Learning rates at known steps, and what decays."""

import pytest
import torch
from factories import tiny_model
from torch import nn

from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.optim import OptimizerConfig, learning_rate, make_optimizer

TRANSFUSION = OptimizerConfig()


def test_defaults_are_transfusions() -> None:
    config = TRANSFUSION
    assert (config.lr, config.final_lr, config.warmup_steps) == (3e-4, 1.5e-5, 4000)
    assert (config.betas, config.eps, config.weight_decay) == ((0.9, 0.95), 1e-8, 0.1)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("cosine", 0, 3e-4 / 4000),
        ("cosine", 1999, 1.5e-4),
        ("cosine", 3999, 3e-4),
        ("cosine", 4000, 3e-4),
        ("cosine", 127_000, (3e-4 + 1.5e-5) / 2),
        ("cosine", 65_500, 1.5e-5 + (3e-4 - 1.5e-5) * (2 + 2**0.5) / 4),
        ("cosine", 250_000, 1.5e-5),
        ("cosine", 260_000, 1.5e-5),
        ("linear", 3999, 3e-4),
        ("linear", 65_500, 1.5e-5 + 0.75 * (3e-4 - 1.5e-5)),
        ("linear", 127_000, (3e-4 + 1.5e-5) / 2),
        ("linear", 250_000, 1.5e-5),
    ],
)
def test_learning_rate_at(schedule: str, step: int, expected: float) -> None:
    config = OptimizerConfig(schedule=schedule)
    assert learning_rate(config, step, 250_000) == pytest.approx(expected, rel=1e-9)


def test_rate_falls_after_the_warm_up_and_ends_near_the_last() -> None:
    config = OptimizerConfig(warmup_steps=5)
    rates = [learning_rate(config, step, 50) for step in range(50)]
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert min(rates) > 0
    assert rates[-1] < 1.05 * config.final_lr
    assert learning_rate(OptimizerConfig(warmup_steps=0), 0, 50) == config.lr


def test_scheduler_gives_these_rates_to_the_optimiser() -> None:
    model = nn.Linear(2, 2)
    config = OptimizerConfig(warmup_steps=3)
    optimizer, schedule = make_optimizer(model, config, 10)
    for step in range(12):
        expected = learning_rate(config, step, 10)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([expected] * 2)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("arm", ["dense", "mot", "moe_4x", "mot_text_moe_4x"])
@pytest.mark.parametrize("codec", ["linear", "unet"])
def test_matrices_decay_and_all_else_does_not(arm: str, codec: str) -> None:
    model = tiny_model(arm, diffusion=DiffusionConfig(codec=codec, unet_channels=8))
    optimizer, _ = make_optimizer(model, TRANSFUSION, 10)
    decaying, others = optimizer.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    decays = {id(parameter) for parameter in decaying["params"]}
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            weight = name == "weight" and isinstance(module, nn.Linear | nn.Conv2d)
            expected = weight or (isinstance(module, ExpertChoice) and name != "router")
            assert (id(parameter) in decays) == expected, (type(module), name)


def test_decay_moves_matrices_without_gradient_and_no_norms() -> None:
    model = tiny_model("mot")
    config = OptimizerConfig(lr=1e-2, final_lr=0.0, warmup_steps=0)
    optimizer, _ = make_optimizer(model, config, 10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decays = parameter.dim() > 1 and "embedding" not in name
        expected = before[name] * (1 - 1e-2 * 0.1) if decays else before[name]
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"final_lr": 1.0}, "final_lr 1.0"),
        ({"lr": 0.0, "final_lr": 0.0}, "lr 0.0"),
        ({"warmup_steps": -1}, "warmup_steps -1"),
    ],
)
def test_refusals(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        OptimizerConfig(**changes)
