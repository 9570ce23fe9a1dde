"""Noising, targets and sampling against diffusers and against closed forms.

Shapes: N images, C x H x W latents.
"""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from mot_lab.heads.diffusion import DiffusionConfig, DiffusionHead

SHAPE = (3, 4, 4)


def head(**changes: object) -> DiffusionHead:
    return DiffusionHead(DiffusionConfig(**changes), SHAPE, patch=2, width=16)


def draw(images: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, images, *SHAPE, generator=generator)
    steps = torch.tensor([0, 1, 250, 500, 998, 999][:images])
    return latents, noise, steps


def generators(images: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(images)]


def test_epsilon_noising_is_that_of_diffusers() -> None:
    latents, noise, steps = draw()
    scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    expected = scheduler.add_noise(latents, noise, steps)
    time_N = (steps / 1000).float()
    assert torch.equal(head().add_noise(latents, noise, time_N), expected)
    assert torch.equal(head().target(latents, noise), noise)


def test_every_time_of_a_batch_is_the_step_it_came_from() -> None:
    steps = torch.arange(1000)
    latents, noise = torch.ones(1000, 1, 1, 1), torch.zeros(1000, 1, 1, 1)
    noised = head().add_noise(latents, noise, (steps / 1000).float())
    alphas = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert torch.equal(noised.flatten(), alphas.sqrt())


def test_flow_noising_and_target() -> None:
    latents, noise, steps = draw()
    flow, time_N = head(objective="flow"), (steps / 1000).float()
    noised, velocity = flow.add_noise(latents, noise, time_N), flow.target(latents, noise)
    t = time_N[:, None, None, None]
    torch.testing.assert_close(noised, latents + t * (noise - latents))
    torch.testing.assert_close(noised - t * velocity, latents)


def test_loss_is_the_mean_of_each_image() -> None:
    latents, noise, _ = draw(2)
    prediction = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    losses_N = head().image_losses(prediction, latents, noise)
    for image in range(2):
        squares = [
            (prediction[image, c, y, x] - noise[image, c, y, x]).item() ** 2
            for c in range(3)
            for y in range(4)
            for x in range(4)
        ]
        assert losses_N[image].item() == pytest.approx(sum(squares) / 48, rel=1e-5)
    assert head().image_losses(noise, latents, noise).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"objective": "epsilon", "sampler": "ddim"}, 10),
        ({"objective": "epsilon", "sampler": "ddim"}, 1000),
        ({"objective": "epsilon", "sampler": "ddpm"}, 50),
        ({"objective": "flow"}, 7),
        ({"objective": "flow"}, 1),
    ],
)
def test_sampler_recovers_what_a_perfect_model_knows(changes: dict, steps: int) -> None:
    latents, _, _ = draw(4)
    diffusion, times = head(**changes), []

    def predict(x_NCHW: Tensor, time_N: Tensor) -> Tensor:
        """The noise, or the velocity, that belongs to the known latents."""
        times.append(time_N[0].item())
        if diffusion.config.objective == "flow":
            return (x_NCHW - latents) / time_N[:, None, None, None]
        alpha = diffusion.alphas_cumprod[(time_N * 1000).round().long()][:, None, None, None]
        return (x_NCHW - alpha.sqrt() * latents) / (1 - alpha).sqrt()

    noise_NCHW = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    sampled = diffusion.sample(predict, noise_NCHW, generators(4), steps)
    torch.testing.assert_close(sampled, latents, atol=2e-3, rtol=0)
    assert len(times) == steps
    assert times == sorted(times, reverse=True)


def test_sampling_is_a_function_of_noise_and_generator() -> None:
    noise, other, _ = draw(2)

    def sample(noise_NCHW: Tensor, seed: int, sampler: str = "ddpm") -> Tensor:
        chance = generators(len(noise_NCHW), seed)
        return head(sampler=sampler).sample(lambda x, _: 0.1 * x, noise_NCHW, chance, 5)

    assert torch.equal(sample(noise, 0), sample(noise, 0))
    assert not torch.equal(sample(noise, 0), sample(other, 0))
    assert not torch.equal(sample(noise, 0), sample(noise, 9))  # ddpm adds noise on its way
    assert torch.equal(sample(noise, 0, "ddim"), sample(noise, 9, "ddim"))
    # Each picture has its own chance.
    assert torch.equal(sample(noise, 0)[1:], sample(noise[1:], 1))


def test_a_sampler_can_be_chosen_when_sampling() -> None:
    noise, _, _ = draw(2)

    def sample(of: DiffusionHead, sampler: str | None) -> Tensor:
        return of.sample(lambda x, _: 0.1 * x, noise, generators(2), 5, sampler)

    ddim, ddpm, flow = head(sampler="ddim"), head(sampler="ddpm"), head(objective="flow")
    assert torch.equal(sample(ddim, "ddpm"), sample(ddpm, None))
    assert torch.equal(sample(ddpm, "ddim"), sample(ddim, None))
    assert torch.equal(sample(flow, "flow"), sample(flow, None))
    for of, sampler, fitting in ((ddim, "flow", "ddim or ddpm"), (flow, "ddim", "flow")):
        with pytest.raises(ValueError, match=rf"sampler '{sampler}' .*: give {fitting}$"):
            sample(of, sampler)
    with pytest.raises(ValueError, match="steps 0 must be 1 to 1000"):
        ddim.sample(lambda x, _: x, noise, generators(2), 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sample_steps": 0}, "sample_steps 0"),
        ({"sample_steps": 1001}, "sample_steps 1001"),
        ({"loss_weight": -1.0}, "loss_weight -1.0"),
    ],
)
def test_refusals(changes: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        DiffusionConfig(**changes)
