"""Losses under both routings, and what the experts take, against loops over tokens.

Shapes: T tokens, E experts.
"""

import json
import math
from itertools import islice
from typing import Any

import pytest
import torch
from factories import give_routers, random_batches, tiny_model
from torch.nn import functional as F

from evaluation.trained.held_out import HeldOutLosses, held_out_losses
from evaluation.trained.routing import routing_record, routings
from mot_lab.causal_router import CausalRouter, RouterConfig
from mot_lab.expert_load import ExpertTally
from mot_lab.fit_router import fit_router
from mot_lab.model import MultimodalModel

BATCHES = list(islice(random_batches(), 4))


def scored(
    net: MultimodalModel,
) -> tuple[dict[str, dict[str, HeldOutLosses]], dict[str, ExpertTally]]:
    losses, tallies = {}, {}
    for name in routings(net):
        tallies[name] = ExpertTally()
        with net.transformer.routing(name):
            losses[name] = {"val": held_out_losses(net, BATCHES, tallies[name])}
    return losses, tallies


def fitted(net: MultimodalModel) -> CausalRouter:
    router = fit_router(net, BATCHES, BATCHES, RouterConfig(steps=len(BATCHES)))
    router.attach(net.transformer)
    return router


def test_what_can_be_evaluated() -> None:
    assert routings(tiny_model("mot")) == ("none",)
    net = tiny_model("moe_4x")
    assert routings(net) == ("training",)
    give_routers(net.transformer)
    assert routings(net) == ("training", "causal")


@pytest.mark.parametrize("arm", ["dense", "moe_4x"])
@pytest.mark.parametrize("routing", ["training", "causal"])
def test_losses_are_means_over_tokens_and_pictures(arm: str, routing: Any) -> None:
    net = tiny_model(arm)
    give_routers(net.transformer)
    nll, image, rows = [], [], []
    with net.transformer.routing(routing), torch.no_grad():
        losses = held_out_losses(net, BATCHES)
        for number, batch in enumerate(BATCHES):
            output = net(batch)
            for place, target, logits in zip(
                batch.target_place_L.tolist(),
                batch.target_L.tolist(),
                output.logits_LV,
                strict=True,
            ):
                nll.append(-F.log_softmax(logits.double(), 0)[target].item())
                rows.append(number * 3 + place // 24)
            for i in range(batch.num_images):
                noised = net.diffusion.target(batch.latents_NCHW[i], batch.noise_NCHW[i])
                image.append((output.prediction_NCHW[i] - noised).square().mean().item())
    assert losses.mean("text") == pytest.approx(math.fsum(nll) / len(nll), rel=1e-6)
    assert losses.mean("image") == pytest.approx(math.fsum(image) / len(image), rel=1e-6)
    assert losses.tokens["text"].counts_R.tolist() == [rows.count(row) for row in range(12)]
    of_row_5 = [each for each, row in zip(nll, rows, strict=True) if row == 5]
    assert losses.tokens["text"].nats_R[5] == pytest.approx(math.fsum(of_row_5), rel=1e-5)


@pytest.mark.parametrize("arm", ["moe_4x", "mot_text_moe_4x"])
@pytest.mark.parametrize("routing", ["training", "causal"])
def test_loads_are_counted_token_by_token(arm: str, routing: Any) -> None:
    net = tiny_model(arm)
    give_routers(net.transformer)
    tally = ExpertTally()
    counted: dict[tuple[int, str], list[list[bool]]] = {}
    with net.transformer.routing(routing):
        held_out_losses(net, BATCHES, tally)
        for batch in BATCHES:
            with torch.no_grad():
                net(batch)
            modality_T = net.groups(batch).group(batch.modality_BS.reshape(-1, 1))[:, 0].tolist()
            if arm != "moe_4x":
                modality_T = [modality for modality in modality_T if modality == 0]
            for layer, _, module in net.transformer.expert_choice():
                for modality, taken_E in zip(modality_T, module.taken_TE.tolist(), strict=True):
                    name = ("text", "image")[modality]
                    counted.setdefault((layer, name), []).append(taken_E)
    assert len(counted) == len(tally.tokens) == (4 if arm == "moe_4x" else 2)
    for (layer, tower, modality), tokens in tally.tokens.items():
        taken = counted[layer, modality]
        feed = (layer, tower, modality)
        assert tokens == len(taken) == sum(batch.counts[modality] for batch in BATCHES)
        assert tally.unrouted(feed) == sum(not any(each) for each in taken) / tokens
        assert tally.load(feed) == [sum(each[e] for each in taken) / tokens for e in range(4)]


def test_experts_take_one_expert_per_token_on_average_in_training_routing() -> None:
    net = tiny_model("moe_4x")
    _, tallies = scored(net)
    for layer in range(2):
        feeds = [feed for feed in tallies["training"].tokens if feed[0] == layer]
        tokens = {feed: tallies["training"].tokens[feed] for feed in feeds}
        taken = sum(tokens[feed] * sum(tallies["training"].load(feed)) for feed in feeds)
        assert taken / sum(tokens.values()) == pytest.approx(1, abs=0.05)  # k is rounded


def test_the_record_has_both_routings_side_by_side() -> None:
    net = tiny_model("moe_4x")
    router = fitted(net)
    losses, tallies = scored(net)
    record = routing_record(losses, tallies, router)
    assert json.loads(json.dumps(record)) == record
    text, image = record["losses"]
    assert (text["split"], text["modality"], image["modality"]) == ("val", "text", "image")
    for row, modality in ((text, "text"), (image, "image")):
        assert row["training"] == losses["training"]["val"].mean(modality)
        assert row["causal"] == losses["causal"]["val"].mean(modality)
        assert row["training"] != row["causal"]
    assert text["n"] == sum(len(batch.target_L) for batch in BATCHES)
    assert image["n"] == sum(batch.num_images for batch in BATCHES)
    assert record["router"] == {
        "steps": 4,
        "parameters": 2 * (16 * 8 + 8 * 4),
        "accuracy": router.quality.accuracy,
        "recall": router.quality.recall,
        "precision": router.quality.precision,
    }
    assert len(record["experts"]) == 4
    for row in record["experts"]:
        feed = (row["layer"], row["tower"], row["modality"])
        for name in ("training", "causal"):
            assert row[f"unrouted_{name}"] == tallies[name].unrouted(feed)
            assert row[f"load_{name}"] == tallies[name].load(feed)
        assert row["unrouted_training"] != row["unrouted_causal"]


def test_without_routers_the_causal_half_of_the_record_is_empty() -> None:
    record = routing_record(*scored(tiny_model("mot_text_moe_4x")), None)
    assert record["router"] is None
    assert [row["causal"] for row in record["losses"]] == [None, None]
    for row in record["experts"]:
        assert (row["tower"], row["modality"]) == ("text", "text")
        assert row["unrouted_causal"] is None and row["load_causal"] is None
        assert 0 < row["unrouted_training"] < 1
