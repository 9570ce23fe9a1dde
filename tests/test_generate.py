"""Generation: a function of the seed, the same in a batch as alone, and experts routed causally.

Shapes: N prompts, P patches, C x H x W latents.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from factories import BOI, BOS, EOI, EOS, FIRST_WORD, PAD, give_routers, tiny_layout
from factories import tiny_model as untouched_model
from torch import Tensor

from mot_lab.batch import MultimodalBatch
from mot_lab.data.documents import ImageSegment, Segment, TextSegment
from mot_lab.data.interface import DataInterface
from mot_lab.generate import generate_captions, generate_images, generate_text, why_not
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel

SMALL = DataInterface(("text", "image"), vocab_size=12, latent_shape=(3, 4, 4), patch=2)
LAYOUT = tiny_layout()
ARMS = ["dense", "mot", "untie_ffn", "moe_4x", "mot_text_moe_4x"]
SPECIAL = {PAD, BOS, BOI, EOI, EOS}
every_arm = pytest.mark.parametrize("arm", ARMS)


def tiny_model(arm: str, *args: Any, **changes: Any) -> MultimodalModel:
    """With auxiliary routers, where the arm has experts."""
    model = untouched_model(arm, *args, **changes)
    give_routers(model.transformer)
    return model


def words(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(FIRST_WORD, SMALL.vocab_size, length) for length in lengths]


def pictures(count: int) -> Tensor:
    shape = (count, *SMALL.latent_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def prompts() -> list[tuple[Segment, ...]]:
    """Of every kind and several lengths: text, picture, text and picture, nothing."""
    short, long, around = (TextSegment(ids) for ids in words(1, 9, 3))
    one, other = (ImageSegment(latents.numpy()) for latents in pictures(2))
    return [(short,), (long,), (one,), (around, other), (one, around, other), ()]


def next_logits(model: MultimodalModel, segments: Sequence[Segment], answer: list[int]) -> Tensor:
    """Logits after a prompt and the answer so far: one row, laid out by hand."""
    tokens, patches, latents = [BOS], [], []
    for segment in [*segments, TextSegment(np.array(answer, np.int64))]:
        if isinstance(segment, TextSegment):
            tokens += segment.ids.tolist()
        else:
            first = len(tokens) + 1
            patches.append(list(range(first, first + 4)))
            tokens += [BOI, 0, 0, 0, 0, EOI]
            latents.append(torch.from_numpy(segment.latents_CHW))
    modality, image = torch.zeros(1, len(tokens)).long(), torch.full((1, len(tokens)), -1)
    for number, places in enumerate(patches):
        modality[0, places] = 1
        image[0, places] = number
    nothing = torch.zeros(0, dtype=torch.int64)
    latents_NCHW = torch.stack(latents) if latents else torch.zeros(0, *SMALL.latent_shape)
    batch = MultimodalBatch(
        token_BS=torch.tensor([tokens]),
        modality_BS=modality,
        document_BS=torch.zeros_like(modality),
        position_BS=torch.arange(len(tokens))[None],
        image_BS=image,
        target_place_L=nothing,
        target_L=nothing,
        patch_place_M=torch.tensor(patches, dtype=torch.int64).flatten(),
        latents_NCHW=latents_NCHW,
        noise_NCHW=torch.zeros_like(latents_NCHW),
        time_N=torch.zeros(len(latents)),
        counts={"text": int((modality == 0).sum()), "image": int(modality.sum())},
    )
    with model.transformer.routing("causal"):
        return model.logits_at(batch, torch.tensor([len(tokens) - 1]))[0]


@torch.no_grad()
def greedy(model: MultimodalModel, segments: Sequence[Segment], max_tokens: int) -> list[int]:
    """One prompt at a time: the likeliest of the words and <eos>."""
    answer: list[int] = []
    while len(answer) < max_tokens:
        logits = next_logits(model, segments, answer)
        allowed = [EOS, *range(FIRST_WORD, SMALL.vocab_size)]
        token = max(allowed, key=lambda each: logits[each].item())
        if token == EOS:
            break
        answer.append(token)
    return answer


@every_arm
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_text_in_a_batch_is_text_alone(arm: str, norm: str) -> None:
    ended_early = 0
    for seed in range(2):
        model = tiny_model(arm, SMALL, seed=seed, norm=norm)
        together = generate_text(model, prompts(), LAYOUT, max_tokens=6)
        assert together == [greedy(model, prompt, 6) for prompt in prompts()]
        ended_early += sum(len(answer) < 6 for answer in together)
    assert ended_early > 0  # rows of a batch end at different steps


@every_arm
def test_captions_are_text_after_a_picture(arm: str) -> None:
    model = tiny_model(arm, SMALL)
    latents_NCHW = pictures(3)
    captions = generate_captions(model, latents_NCHW, LAYOUT, max_tokens=5)
    for latents, caption in zip(latents_NCHW, captions, strict=True):
        assert caption == greedy(model, (ImageSegment(latents.numpy()),), 5)


def test_drawn_text_is_a_function_of_the_seed() -> None:
    model = tiny_model("mot", SMALL)

    def draw(seed: int) -> list[list[int]]:
        return generate_text(model, prompts(), LAYOUT, 12, temperature=1.0, seed=seed)

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


@every_arm
@pytest.mark.parametrize("temperature", [0.0, 1.0, 100.0])
def test_special_tokens_are_never_emitted(arm: str, temperature: float) -> None:
    model = tiny_model(arm, SMALL)
    for special in (PAD, BOS, BOI, EOI):  # make them likely
        model.text.output.weight.data[special] *= 10
    lengths = []
    for seed in range(5):
        for answer in generate_text(model, prompts(), LAYOUT, 20, temperature, seed):
            assert not SPECIAL & set(answer)
            lengths.append(len(answer))
    assert max(lengths) <= 20
    if temperature == 100.0:  # nearly uniform over 7 words and <eos>
        assert 3 < np.mean(lengths) < 12


@every_arm
@pytest.mark.parametrize("objective", ["epsilon", "flow"])
def test_pictures_in_a_batch_are_pictures_alone(arm: str, objective: str) -> None:
    config = DiffusionConfig(objective=objective, unet_channels=8)
    model = tiny_model(arm, SMALL, diffusion=config)
    captions = words(2, 7, 4)
    together = generate_images(model, captions, LAYOUT, seed=5, steps=4)
    assert together.shape == (3, *SMALL.latent_shape)
    assert together.std() > 0.1

    def one_at_a_time(x_NCHW: Tensor, time_N: Tensor) -> Tensor:
        """Each picture in a row of its own behind its caption, and nothing after it."""
        predictions = []
        for ids, x_CHW, time in zip(captions, x_NCHW, time_N, strict=True):
            length = len(ids) + 6
            patches = torch.arange(len(ids) + 2, length)
            modality = torch.zeros(1, length).long()
            modality[0, patches] = 1
            batch = MultimodalBatch(
                token_BS=torch.tensor([[BOS, *ids, BOI, 0, 0, 0, 0]]),
                modality_BS=modality,
                document_BS=torch.zeros_like(modality),
                position_BS=torch.arange(length)[None],
                image_BS=modality - 1,
                target_place_L=torch.zeros(0).long(),
                target_L=torch.zeros(0).long(),
                patch_place_M=patches,
                latents_NCHW=x_CHW[None],
                noise_NCHW=x_CHW[None],
                time_N=time[None],
                counts={"text": length - 4, "image": 4},
            )
            with model.transformer.routing("causal"):
                predictions.append(model.denoise(batch, x_CHW[None]))
        return torch.cat(predictions)

    generator = torch.Generator().manual_seed(5)
    noise = [np.random.default_rng((5, i)).standard_normal((3, 4, 4), np.float32) for i in range(3)]
    noise_NCHW = torch.from_numpy(np.stack(noise))
    alone = model.image.sample(one_at_a_time, noise_NCHW, generator, 4)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    assert torch.equal(together, generate_images(model, captions, LAYOUT, seed=5, steps=4))
    assert not torch.equal(together, generate_images(model, captions, LAYOUT, seed=6, steps=4))


@every_arm
def test_a_caption_decides_its_own_picture_only(arm: str) -> None:
    model = tiny_model(arm, SMALL)
    captions = words(3, 3, 3)
    before = generate_images(model, captions, LAYOUT, seed=0, steps=3)
    captions[1] = (captions[1] - FIRST_WORD + 1) % 7 + FIRST_WORD
    after = generate_images(model, captions, LAYOUT, seed=0, steps=3)
    near = 1e-4 if "moe" in arm else 0.0  # how many rows an expert is given moves the last bit
    same = [torch.allclose(a, b, atol=near, rtol=0) for a, b in zip(before, after, strict=True)]
    assert same == [True, False, True]


@pytest.mark.parametrize("arm", ["moe_4x", "moe_1x", "mot_text_moe_4x"])
def test_experts_without_causal_routers_are_refused(arm: str) -> None:
    model = untouched_model(arm, SMALL)
    reason = why_not(model)
    assert reason is not None
    assert reason.startswith("not available: expert-choice routing looks at later tokens")
    assert "`mot-lab fit-router`" in reason
    for generate in (
        lambda: generate_text(model, prompts(), LAYOUT, 3),
        lambda: generate_captions(model, pictures(1), LAYOUT, 3),
        lambda: generate_images(model, words(2), LAYOUT, 0, 2),
    ):
        with pytest.raises(ValueError) as caught:
            generate()
        assert str(caught.value) == reason
    assert all(why_not(tiny_model(each, SMALL)) is None for each in ARMS)


def test_generating_leaves_training_routing_switched_on() -> None:
    model = tiny_model("moe_4x", SMALL)
    generate_text(model, prompts(), LAYOUT, 2)
    assert not any(module.causal for _, _, module in model.transformer.expert_choice())
