"""Auxiliary routers: fitted on a frozen model, judged, kept in a file that knows its weights.

Shapes: T tokens, D width, E experts.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from factories import random_batches, tiny_model
from safetensors.torch import save_file

from mot_lab.batch import MultimodalBatch
from mot_lab.causal_router import (
    CausalRouter,
    RouterConfig,
    load_router,
    router_path,
    weights_digest,
)
from mot_lab.fit_router import fit_router, router_quality, training_routing
from mot_lab.model import MultimodalModel


def batches(count: int, seed: int = 0) -> list[MultimodalBatch]:
    return list(islice(random_batches(seed=seed), count))


def fitted(net: MultimodalModel, steps: int = 10, **changes: float) -> CausalRouter:
    config = RouterConfig(**{"steps": steps, **changes})
    return fit_router(net, batches(steps), batches(3, seed=1), config, step=7)


def image_only() -> MultimodalBatch:
    """One picture and no token of text."""
    nothing = torch.zeros(0, dtype=torch.int64)
    places = torch.arange(4)[None]
    latents_NCHW = torch.randn(1, 3, 4, 4, generator=torch.manual_seed(0))
    return MultimodalBatch(
        token_BS=torch.zeros_like(places),
        modality_BS=torch.ones_like(places),
        document_BS=torch.zeros_like(places),
        position_BS=places,
        image_BS=torch.zeros_like(places),
        target_place_L=nothing,
        target_L=nothing,
        target_modality_L=nothing,
        patch_place_M=places[0],
        latents_NCHW=latents_NCHW,
        noise_NCHW=latents_NCHW,
        time_N=torch.zeros(1),
        counts={"text": 0, "image": 4},
        target_counts={"text": 0, "image": 0},
    )


@pytest.mark.parametrize("arm", ["moe_4x", "mot_text_moe_4x"])
def test_routers_learn_what_topk_decides(arm: str) -> None:
    net = tiny_model(arm, gate="softmax")
    before = fitted(net, steps=1, lr=1e-9, final_lr=0.0).quality
    router = fitted(net, steps=200, lr=2e-2, final_lr=2e-4)
    towers = "text_image" if arm == "moe_4x" else "text"
    assert sorted(router.routers) == [f"0/{towers}", f"1/{towers}"]
    assert router.parameters == 2 * (16 * 8 + 8 * 4)
    assert before.accuracy < 0.7
    # taking nothing is right in 3 of 4 cases
    assert router.quality.accuracy > 0.85
    assert router.quality.precision > 0.7
    assert router.quality.recall > 0.6


def test_fitting_is_a_function_of_the_seed_and_only_reads_the_network() -> None:
    net = tiny_model("moe_4x")
    weights = {name: weight.clone() for name, weight in net.state_dict().items()}
    one, again, other = fitted(net), fitted(net), fitted(net, seed=1)
    for name, router in one.routers.items():
        assert torch.equal(router.into_DH, again.routers[name].into_DH)
        assert torch.equal(router.out_HE, again.routers[name].out_HE)
        assert not torch.equal(router.into_DH, other.routers[name].into_DH)
    assert one.quality == again.quality
    assert all(torch.equal(weight, weights[name]) for name, weight in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())
    assert not any(module.causal for _, _, module in net.transformer.expert_choice())


@pytest.mark.parametrize("arm", ["moe_4x", "mot_text_moe_4x"])
def test_what_is_learned_is_the_topk_of_what_the_main_router_reads(arm: str) -> None:
    net, (batch,) = tiny_model(arm), batches(1)
    routed = training_routing(net, batch)
    assert len(routed) == 2
    for (layer, tower, module), (name, (x_TD, taken_TE)) in zip(
        net.transformer.expert_choice(), routed.items(), strict=True
    ):
        assert name == f"{layer}/{tower}"
        tokens = batch.counts["text"] + (batch.counts["image"] if arm == "moe_4x" else 0)
        assert x_TD.shape == (tokens, 16)
        for score_T, taken_T in zip(module.scores(x_TD).t(), taken_TE.t(), strict=True):
            assert int(taken_T.sum()) == int(tokens / 4 + 0.5)
            assert score_T[taken_T].min() >= score_T[~taken_T].max()  # ties happen in fp32


def test_quality_is_counted_decision_by_decision() -> None:
    net, held_out = tiny_model("moe_4x"), batches(3, seed=1)
    router = fitted(net, steps=30, lr=1e-2, final_lr=1e-3)
    decisions = [
        (bool(guess), bool(truth))
        for batch in held_out
        for name, (x_TD, taken_TE) in training_routing(net, batch).items()
        for guess, truth in zip(
            (router.routers[name].logits(x_TD) > 0).flatten(), taken_TE.flatten(), strict=True
        )
    ]
    right = sum(guess == truth for guess, truth in decisions)
    both = sum(guess and truth for guess, truth in decisions)
    assert router.quality.accuracy == right / len(decisions)
    assert router.quality.precision == both / sum(guess for guess, _ in decisions)
    assert router.quality.recall == both / sum(truth for _, truth in decisions)


def test_routers_that_take_nothing_have_precision_zero() -> None:
    net = tiny_model("moe_4x")
    routers = {name: replace(router, threshold=1.0) for name, router in fitted(net).routers.items()}
    quality = router_quality(net, routers, batches(2, seed=1))
    assert (quality.precision, quality.recall) == (0.0, 0.0)
    assert 0.7 < quality.accuracy < 0.8  # each expert takes a quarter


def test_a_batch_without_text_teaches_the_text_router_nothing() -> None:
    net = tiny_model("mot_text_moe_4x")
    assert training_routing(net, image_only()) == {}
    assert len(training_routing(tiny_model("moe_4x"), image_only())) == 2
    config = RouterConfig(steps=3)
    text = batches(2)
    one = fit_router(net, [text[0], image_only(), text[1]], batches(1, seed=1), config)
    assert one.routers["0/text"].into_DH.isfinite().all()


def test_a_loss_that_is_not_finite_stops_the_fit() -> None:
    net = tiny_model("moe_4x")
    net.autoregressive.embedding.weight.data[:] = torch.nan
    with pytest.raises(FloatingPointError, match="loss of the routers is nan at step 0"):
        fitted(net)


def test_a_file_holds_everything(tmp_path: Path) -> None:
    net = tiny_model("mot_text_moe_4x")
    router = fitted(net, threshold=0.4, seed=3)
    path = router_path(tmp_path / "checkpoint.ckpt")
    router.save(path)
    assert path.name == "checkpoint.router.safetensors"
    kept = load_router(path)
    assert kept.routers.keys() == router.routers.keys()
    for name, each in router.routers.items():
        assert torch.equal(kept.routers[name].into_DH, each.into_DH)
        assert torch.equal(kept.routers[name].out_HE, each.out_HE)
        assert kept.routers[name].threshold == 0.4
    assert (kept.config, kept.quality, kept.step) == (router.config, router.quality, 7)
    assert kept.weights == router.weights == weights_digest(net)
    kept.attach(net.transformer)
    assert net.transformer.can_route_causally()


def test_the_digest_is_of_every_weight() -> None:
    net = tiny_model("moe_4x")
    digests = {weights_digest(net)}
    for weight in net.parameters():
        weight.data.view(-1)[0] += 0.5
        digests.add(weights_digest(net))
    assert len(digests) == len(list(net.parameters())) + 1


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _not_finite(path: Path) -> None:
    router = load_router(path)
    router.routers["0/text_image"].into_DH[0, 0] = torch.nan
    router.save(path)


def _another_format(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_cut_short, "is no whole causal router"),
        (_not_finite, "holds a weight 0/text_image/into_DH that is not finite"),
        (_another_format, "is no causal router of mot-lab"),
    ],
)
def test_a_bad_file_is_refused(spoil: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.router.safetensors"
    fitted(tiny_model("moe_4x"), steps=1).save(path)
    spoil(path)
    with pytest.raises(ValueError, match=reason):
        load_router(path)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"steps": 0}, "steps 0 must be at least 1"),
        ({"lr": 0.0}, "lr 0.0 must be above 0"),
        ({"lr": 1e-3, "final_lr": 1e-2}, "final_lr 0.01 must be .* at most lr 0.001"),
        ({"threshold": 1.0}, "threshold 1.0 must lie between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        RouterConfig(**wrong)
