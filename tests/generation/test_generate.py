"""Cached, batched generation is the slow twin's: token for token, picture for picture.

Shapes: N prompts, C x H x W latents.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import oracle_generation
import pytest
import torch
from factories import (
    FIRST_WORD,
    give_routers,
    tiny_layout,
    tiny_model,
)

from mot_lab.data.documents import CodeSegment, ImageSegment, Segment, TextSegment
from mot_lab.data.interface import Codes, DataInterface, Latents
from mot_lab.generation.generate import Answer, generate, why_not
from mot_lab.generation.prompts import Prompt
from mot_lab.generation.sampling import Sampling
from mot_lab.heads.diffusion import DiffusionConfig
from mot_lab.model import MultimodalModel

# Few words, so that blocks are opened and documents end now and then.
PICTURES, CODES, UNITS = Latents((3, 4, 4), patch=2), Codes(12, 4), Codes(7)
SETTINGS = {
    "transfusion": DataInterface(14, {"image": PICTURES}),
    "chameleon": DataInterface(14, {"image": CODES}),
    "chameleon speech": DataInterface(14, {"image": CODES, "speech": UNITS}),
    "transfusion speech": DataInterface(14, {"speech": UNITS, "image": PICTURES}),
}
CASES = [
    *((setting, arm) for setting in SETTINGS for arm in ("dense", "mot", "moe_4x")),
    ("transfusion", "mot_text_moe_4x"),
    ("transfusion", "untie_ffn"),
    ("transfusion", "untie_ffn_qkv"),
    ("chameleon speech", "loo_speech"),
    ("chameleon speech", "mot_text_moe_2x"),
]
SAMPLERS = {
    "ddim": DiffusionConfig(sampler="ddim"),
    "ddpm": DiffusionConfig(sampler="ddpm"),
    "flow": DiffusionConfig(objective="flow"),
    "U-Net": DiffusionConfig(codec="unet", unet_channels=8),
}


def model_of(arm: str, interface: DataInterface, seed: int = 0, **changes: Any) -> MultimodalModel:
    """In fp64, with routers where it has experts."""
    model = tiny_model(arm, interface, torch.float64, seed, **changes)
    give_routers(model.transformer)
    return model


def prompts_of(interface: DataInterface, seed: int = 0) -> list[Prompt]:
    """Of every kind and length, wanting everything there is."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> TextSegment:
        return TextSegment(rng.integers(FIRST_WORD, interface.text_vocabulary, length))

    def block(name: str) -> Segment:
        part = interface.others[name]
        if isinstance(part, Latents):
            return ImageSegment(rng.standard_normal(part.shape))
        return CodeSegment(name, rng.integers(0, part.size, part.length or rng.integers(1, 6)))

    names = list(interface.others)
    prompts = [Prompt(), Prompt((text(9),), "text"), Prompt((text(1),))]
    for name in names:
        prompts += [
            Prompt((text(3),), name),
            Prompt((block(name), text(2)), name),
            Prompt((block(name),), "text"),
            Prompt((text(6),), "text", opened=name),
            Prompt((block(name), block(name)), "free", opened=name),
        ]
    everything = tuple(part for name in names for part in (text(2), block(name)))
    return [*prompts, Prompt(everything), Prompt((*everything, text(1)), names[-1])]


def assert_same(actual: list[Answer], expected: list[Answer], atol: float = 1e-9) -> None:
    """Equal tokens and codes; latents but for rounding."""
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert [type(each) for each in one] == [type(each) for each in other]
        for a, b in zip(one, other, strict=True):
            if isinstance(a, TextSegment):
                assert a.ids.tolist() == b.ids.tolist()
            elif isinstance(a, CodeSegment):
                assert a.modality == b.modality
                assert a.codes.tolist() == b.codes.tolist()
            else:
                assert a.latents_CHW.shape == b.latents_CHW.shape
                np.testing.assert_allclose(a.latents_CHW, b.latents_CHW, rtol=0, atol=atol)


def slowly(model: MultimodalModel, prompts: list[Prompt], sampling: Sampling, interface) -> list:
    layout = tiny_layout(interface=interface)
    return [
        oracle_generation.answer(model, layout, prompt, sampling, i)
        for i, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize(("setting", "arm"), CASES)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_is_the_slow_twin(setting: str, arm: str, norm: str) -> None:
    interface = SETTINGS[setting]
    model, prompts = model_of(arm, interface, norm=norm), prompts_of(interface)
    layout = tiny_layout(interface=interface)
    sampling = Sampling(3.0, 0.95, steps=3, max_tokens=7, max_codes=4, max_blocks=2, seed=1)
    answers = generate(model, layout, prompts, sampling)
    assert_same(answers, slowly(model, prompts, sampling, interface))
    assert any(len(answer) > 1 for answer in answers)  # a free one goes from kind to kind


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("guidance", [0.0, 2.5])
def test_guidance_is_the_slow_twins(setting: str, guidance: float) -> None:
    """The unconditional branch reads the same without text, in a cache of its own."""
    interface = SETTINGS[setting]
    model, prompts = model_of("mot", interface), prompts_of(interface)
    layout = tiny_layout(interface=interface)
    sampling = Sampling(1.0, guidance=guidance, steps=3, max_tokens=5, max_codes=3, seed=2)
    answers = generate(model, layout, prompts, sampling)
    assert_same(answers, slowly(model, prompts, sampling, interface))
    unguided = generate(model, layout, prompts, replace(sampling, guidance=1.0))
    # Speech is not guided, text neither: only what depends on a picture differs.
    for prompt, one, other in zip(prompts, answers, unguided, strict=True):
        if prompt.want == "text" and prompt.opened != "image":
            assert_same([one], [other])
        if prompt.want == "image" and prompt.segments:
            with pytest.raises(AssertionError):
                assert_same([one], [other])


@pytest.mark.parametrize("diffusion", SAMPLERS.values(), ids=SAMPLERS.keys())
def test_every_sampler_and_codec_is_the_slow_twins(diffusion: DiffusionConfig) -> None:
    interface = SETTINGS["transfusion"]
    model = model_of("mot", interface, diffusion=diffusion)
    prompts = prompts_of(interface)
    sampling = Sampling(1.0, guidance=1.5, steps=4, max_tokens=5, seed=3)
    answers = generate(model, tiny_layout(interface=interface), prompts, sampling)
    # diffusers' flow sampler computes in fp32 inside.
    atol = 1e-5 if diffusion.objective == "flow" else 1e-9
    assert_same(answers, slowly(model, prompts, sampling, interface), atol)


@pytest.mark.parametrize(("setting", "arm"), CASES)
def test_the_likeliest_in_a_batch_is_the_likeliest_alone(setting: str, arm: str) -> None:
    interface = SETTINGS[setting]
    model, prompts = model_of(arm, interface), prompts_of(interface)
    layout = tiny_layout(interface=interface)
    sampling = Sampling(steps=2, max_tokens=6, max_codes=4, max_blocks=1)
    together = generate(model, layout, prompts, sampling)
    assert_same(together, slowly(model, prompts, sampling, interface))


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_answer_depends_on_its_number_and_the_seed_alone(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    interface = SETTINGS[setting]
    diffusion = DiffusionConfig(sampler="ddpm")  # which draws noise on its way
    model, prompts = model_of("mot", interface, diffusion=diffusion), prompts_of(interface)
    layout = tiny_layout(interface=interface)
    sampling = Sampling(2.0, 0.9, 1.5, steps=3, max_tokens=6, max_codes=4, max_blocks=2)
    answers = generate(model, layout, prompts, sampling)
    assert_same(generate(model, layout, prompts, sampling), answers)
    for i in range(0, len(prompts), 3):
        others = [Prompt(want="text")] * i + [prompts[i]]
        assert_same(generate(model, layout, others, sampling)[i:], answers[i : i + 1])
    monkeypatch.setattr("mot_lab.generation.generate.GENERATE_BATCH", 4)
    assert_same(generate(model, layout, prompts, sampling), answers)
    with pytest.raises(AssertionError):
        assert_same(generate(model, layout, prompts, replace(sampling, seed=1)), answers)
    twice = generate(model, layout, [prompts[3]] * 2, sampling)
    with pytest.raises(AssertionError):
        assert_same(twice[:1], twice[1:])


@pytest.mark.parametrize("setting", SETTINGS)
def test_limits_and_wants_are_kept(setting: str) -> None:
    interface = SETTINGS[setting]
    prompts = prompts_of(interface)
    layout = tiny_layout(interface=interface)
    words = set(range(interface.text_vocabulary)) - {layout.pad, layout.bos, layout.eos}
    for block in layout.blocks.values():
        words -= {block.begin, block.end}
    most, ended = 0, 0
    for seed in range(4):
        model = model_of("mot", interface, seed)
        sampling = Sampling(50.0, steps=1, max_tokens=6, max_codes=3, max_blocks=2, seed=seed)
        for prompt, answer in zip(prompts, generate(model, layout, prompts, sampling), strict=True):
            texts = [each.ids.tolist() for each in answer if isinstance(each, TextSegment)]
            blocks = [each for each in answer if not isinstance(each, TextSegment)]
            assert all(set(ids) <= words and ids for ids in texts)
            assert sum(map(len, texts)) <= 6
            ended += 0 < sum(map(len, texts)) < 6
            most = max(most, len(blocks))
            for block in blocks:
                if isinstance(block, CodeSegment):
                    part = interface.others[block.modality]
                    assert 0 <= block.codes.min() <= block.codes.max() < part.size
                    assert len(block.codes) == part.length or 1 <= len(block.codes) <= 3
                    assert part.length is None or len(block.codes) == part.length
            if prompt.want == "text":
                assert len(blocks) == (prompt.opened is not None)
            elif prompt.want == "free":
                assert len(blocks) <= 2
            else:
                assert [type(each) for each in answer] == [type(each) for each in blocks]
                assert len(blocks) == 1
    assert most == 2
    assert ended > 0


@pytest.mark.parametrize("arm", ["moe_4x", "moe_1x", "mot_text_moe_4x"])
def test_experts_without_causal_routers_are_refused(arm: str) -> None:
    interface = SETTINGS["transfusion"]
    model, layout = tiny_model(arm, interface), tiny_layout(interface=interface)
    reason = why_not(model)
    assert reason is not None
    assert reason.startswith("not available: expert-choice routing looks at later tokens")
    assert "`mot-lab fit-router`" in reason
    for prompt in prompts_of(interface):
        with pytest.raises(ValueError) as caught:
            generate(model, layout, [prompt])
        assert str(caught.value) == reason
    give_routers(model.transformer)
    assert why_not(model) is None
    generate(model, layout, [Prompt(want="text")], Sampling(max_tokens=2))
    assert not any(module.causal for _, _, module in model.transformer.expert_choice())


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(want="smell"), r"want 'smell' is none of text, image, speech, free"),
        (Prompt(opened="smell"), r"opened 'smell' is none of image, speech"),
        (Prompt(want="image", opened="speech"), r"opened 'speech' and want 'image' name two"),
        (Prompt((TextSegment(np.array([3, 14])),)), r"text tokens from 3 to 14 .* 0 \.\. 13"),
        (Prompt((CodeSegment("speech", np.array([7])),)), r"speech codes from 7 to 7 .* 0 \.\. 6"),
        (Prompt((CodeSegment("image", np.zeros(3, int)),)), r"image block of 3 codes, not 4"),
        (Prompt((ImageSegment(np.zeros((3, 4, 4))),)), r"denoised pictures, the layout has text"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(prompt: Prompt, message: str) -> None:
    interface = SETTINGS["chameleon speech"]
    model = model_of("mot", interface)
    with pytest.raises(ValueError, match=message):
        generate(model, tiny_layout(interface=interface), [Prompt(), prompt])


def test_a_picture_of_another_shape_is_refused() -> None:
    interface = SETTINGS["transfusion"]
    prompt = Prompt((ImageSegment(np.zeros((3, 8, 4), np.float32)),))
    with pytest.raises(ValueError, match=r"latents .* \[3, 8, 4\]; give .* \[3, 4, 4\]"):
        generate(model_of("mot", interface), tiny_layout(interface=interface), [prompt])
