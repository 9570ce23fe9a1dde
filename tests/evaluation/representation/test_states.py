"""Hidden states read by hooks against the backbone computed token by token, and which are read.

Shapes: B rows, S positions, K depths, N sampled tokens, D width.
"""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from factories import (
    BOS,
    CHAMELEON,
    CHAMELEON_SPEECH,
    EOS,
    INTERFACE,
    RandomLayout,
    give_routers,
    random_batches,
    tiny_model,
)
from oracles import BackboneOracle

from evaluation.representation.sample import TokenSample, draw_tokens
from evaluation.representation.states import depth_names, hidden_states
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.model import MultimodalModel


def some_batches(interface: DataInterface = INTERFACE, count: int = 3) -> list[MultimodalBatch]:
    return list(islice(random_batches(rows=4, length=32, interface=interface), count))


def slow_states(
    net: MultimodalModel, batches: list[MultimodalBatch], sample: TokenSample, noised: bool
) -> np.ndarray:
    """[K, N, D], token by token; pictures are embedded by the codec, patch by patch."""
    streams = [slow_stream(net, batch, noised) for batch in batches]
    states = []
    for number, place in zip(sample.batch_N, sample.place_N, strict=True):
        at = divmod(int(place), batches[number].token_BS.shape[1])
        states.append(torch.stack([each[at] for each in streams[number]]))
    return torch.stack(states, dim=1).detach().numpy()


def slow_stream(
    net: MultimodalModel, batch: MultimodalBatch, noised: bool
) -> list[dict[tuple[int, int], torch.Tensor]]:
    """State of every (row, place) at each depth."""
    rows, length = batch.token_BS.shape
    x_ND = net.autoregressive.embed(batch.token_BS.flatten()).clone()
    if net.diffusion is not None:
        time_N = batch.time_N if noised else torch.zeros_like(batch.time_N)
        fed_NCHW = batch.latents_NCHW
        if noised:
            fed_NCHW = net.diffusion.add_noise(fed_NCHW, batch.noise_NCHW, time_N)
        patches_NPD, _ = net.diffusion.codec.encode(fed_NCHW, time_N)
        for to, patch_D in zip(batch.patch_place_M, patches_NPD.flatten(0, 1), strict=True):
            x_ND[to] = patch_D
    layout = RandomLayout(batch.modality_BS, batch.document_BS, batch.image_BS, batch.position_BS)
    return BackboneOracle(net.transformer, layout).stream(x_ND.view(rows, length, -1))


@pytest.mark.parametrize(
    ("arm", "interface", "noised", "norm"),
    [
        ("dense", INTERFACE, False, "pre"),
        ("mot", INTERFACE, True, "pre"),
        ("untie_ffn", INTERFACE, False, "post"),
        ("mot", CHAMELEON_SPEECH, False, "post"),
        ("loo_speech", CHAMELEON_SPEECH, True, "pre"),
        ("moe_2x", CHAMELEON, False, "pre"),
    ],
)
def test_states_are_those_of_the_slow_backbone(
    arm: str, interface: DataInterface, noised: bool, norm: str
) -> None:
    net = tiny_model(arm, interface, dtype=torch.float64, norm=norm)
    batches = [
        replace(
            batch, latents_NCHW=batch.latents_NCHW.double(), noise_NCHW=batch.noise_NCHW.double()
        )
        for batch in some_batches(interface, count=2)
    ]
    sample = draw_tokens(batches, interface.modalities, tokens=42, seed=0)
    few = TokenSample(
        sample.modalities,
        *(
            getattr(sample, name)[::9]
            for name in ("modality_N", "batch_N", "place_N", "document_N")
        ),
    )
    states_KND = hidden_states(net, batches, few, noised)
    assert states_KND.shape == (4, len(few.place_N), 16) and states_KND.dtype == np.float32
    expected_KND = slow_states(net, batches, few, noised)
    np.testing.assert_allclose(states_KND, expected_KND, rtol=1e-5, atol=1e-5)


def test_the_last_depth_is_what_the_heads_read_and_training_is_not_touched() -> None:
    net, batches = tiny_model("mot"), some_batches()
    sample = draw_tokens(batches, INTERFACE.modalities, tokens=80, seed=1)
    before = net(batches[0]).logits_LV
    states_KND = hidden_states(net, batches, sample, noised=True)
    assert torch.equal(net(batches[0]).logits_LV, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())

    batch = batches[0]
    noised_NCHW = net.diffusion.add_noise(batch.latents_NCHW, batch.noise_NCHW, batch.time_N)
    with torch.no_grad():  # with gradients the CPU rounds otherwise (backbones/written_out.py)
        hidden_TD, groups, _ = net.hidden(batch, noised_NCHW)
    own = sample.batch_N == 0
    places = groups.places(torch.from_numpy(sample.place_N[own]))
    assert np.array_equal(states_KND[-1, own], hidden_TD[places].numpy())


def test_noise_moves_pictures_and_what_follows_but_no_text_before() -> None:
    net, batches = tiny_model("dense"), some_batches()
    sample = draw_tokens(batches, INTERFACE.modalities, tokens=120, seed=0)
    clean_KND, noised_KND = (hidden_states(net, batches, sample, each) for each in (False, True))
    image_N = sample.modality_N == sample.modalities.index("image")
    changed_KN = np.abs(clean_KND - noised_KND).max(axis=2) > 1e-6
    assert changed_KN[0, image_N].all() and not changed_KN[0, ~image_N].any()
    assert 0 < changed_KN[-1, ~image_N].mean() < 1


def test_routing_is_the_one_that_is_switched_on() -> None:
    net, batches = tiny_model("moe_4x"), some_batches()
    give_routers(net.transformer)
    sample = draw_tokens(batches, INTERFACE.modalities, tokens=60, seed=0)
    training_KND = hidden_states(net, batches, sample)
    with net.transformer.routing("causal"):
        causal_KND = hidden_states(net, batches, sample)
    assert np.array_equal(training_KND[0], causal_KND[0])
    assert np.abs(training_KND[1] - causal_KND[1]).max() > 0.01


def test_states_that_are_not_finite_are_refused() -> None:
    net, batches = tiny_model("dense"), some_batches()
    sample = draw_tokens(batches, INTERFACE.modalities, tokens=60, seed=0)
    net.transformer.blocks[1].feed_forward_norm.tower["text_image"].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="hidden states of block 2 are not finite"):
        hidden_states(net, batches, sample)


@pytest.mark.parametrize("interface", [INTERFACE, CHAMELEON_SPEECH])
def test_a_sample_is_balanced_real_and_the_same_for_a_seed(interface: DataInterface) -> None:
    batches = some_batches(interface)
    names = interface.modalities
    sample = draw_tokens(batches, names, tokens=20 * len(names), seed=4)
    assert sample.modalities == names
    assert sample.counts() == dict.fromkeys(names, 20)
    seen = set()
    documents: dict[int, tuple[int, int, int]] = {}
    for number, place, modality, document in zip(
        sample.batch_N, sample.place_N, sample.modality_N, sample.document_N, strict=True
    ):
        batch = batches[number]
        row, at = divmod(int(place), batch.token_BS.shape[1])
        assert batch.modality_BS[row, at] == modality
        where = (int(number), row, int(batch.document_BS[row, at]))
        assert documents.setdefault(int(document), where) == where
        seen.add((int(number), int(place)))
    assert len(seen) == 20 * len(names)  # none twice
    assert len(set(documents.values())) == len(documents)  # no two documents under one number
    assert set(documents) == set(range(len(documents)))

    again, other = (draw_tokens(batches, names, 20 * len(names), seed) for seed in (4, 5))
    assert np.array_equal(again.place_N, sample.place_N)
    assert not np.array_equal(other.place_N, sample.place_N)


def test_special_tokens_are_not_drawn_and_patches_are_none_though_their_id_is_0() -> None:
    batches = some_batches()
    everything = draw_tokens(batches, INTERFACE.modalities, 10_000, seed=0)
    without = draw_tokens(batches, INTERFACE.modalities, 10_000, seed=0, special=[0, BOS, EOS])
    text_A = torch.cat([(batch.modality_BS == 0).flatten() for batch in batches])
    token_A = torch.cat([batch.token_BS.flatten() for batch in batches])
    marks = int((text_A & ((token_A == BOS) | (token_A == EOS))).sum())
    assert marks > 10
    assert everything.counts()["text"] == int(text_A.sum())
    assert without.counts()["text"] == int(text_A.sum()) - marks
    assert without.counts()["image"] == everything.counts()["image"] > 0


def test_samples_that_say_nothing_are_refused() -> None:
    batches = some_batches()
    text = [replace(batch, modality_BS=batch.modality_BS.clamp(max=0)) for batch in batches]
    with pytest.raises(ValueError, match="the batches hold text alone"):
        draw_tokens(text, INTERFACE.modalities, 100, seed=0)
    with pytest.raises(ValueError, match=r"tokens: 8 give text tokens of [1-4] documents, too few"):
        draw_tokens(batches, INTERFACE.modalities, 8, seed=0)


def test_depths_are_named_from_the_embedding_to_the_final_norm() -> None:
    assert depth_names(1) == ("embedding", "block 1", "final norm")
