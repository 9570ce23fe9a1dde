"""A trained model and the causal router beside its checkpoint: fitted, kept, refused, used."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_studies import FEW_SCENES

from evaluation.trained.held_out import held_out_losses
from evaluation.trained.runs import evaluate_run
from mot_lab.causal_router import RouterConfig, load_router, router_path, weights_digest
from mot_lab.cli import main
from mot_lab.config import StudyConfig
from mot_lab.fit_router import fit_checkpoint, fit_run
from mot_lab.parsing import from_dict
from mot_lab.trained import load_trained
from mot_lab.training import Run, runs_of, train

SETTINGS = {
    "name": "one",
    "arms": ["dense", "mot_text_moe_4x"],
    "data": FEW_SCENES,
    "model": {
        "backbone": {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 2},
    },
    "training": {"steps": 3, "val_every": 3, "log_every": 3, "checkpoint_every": 3},
    "evaluation": {"images": 4, "sample_steps": 2, "shown": 1, "extractors": []},
    "router": {"steps": 3},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    runs = runs_of(from_dict(StudyConfig, SETTINGS), folder)
    for run in runs:
        train(run, None)
    return {run.arm: run for run in runs}


@pytest.fixture
def checkpoint(runs: dict[str, Run]) -> Path:
    """Of the arm with experts, without a router."""
    path = runs["mot_text_moe_4x"].checkpoint
    router_path(path).unlink(missing_ok=True)
    return path


def refusal(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_router_is_fitted_to_the_averaged_weights_and_kept(checkpoint: Path) -> None:
    config = RouterConfig(steps=3)
    assert load_trained(checkpoint).router is None
    router, fitted = fit_checkpoint(checkpoint, config)
    assert fitted
    trained = load_trained(checkpoint)
    assert trained.router is not None
    assert trained.router.weights == router.weights == weights_digest(trained.module.net)
    assert trained.router.step == trained.step == 3
    raw = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert not torch.equal(
        raw["net.autoregressive.output.weight"],
        trained.module.net.autoregressive.output.weight,
    )
    assert trained.module.net.transformer.can_route_causally()

    written = router_path(checkpoint).read_bytes()
    again, fitted = fit_checkpoint(checkpoint, config)
    assert not fitted
    assert router_path(checkpoint).read_bytes() == written
    _, fitted = fit_checkpoint(checkpoint, replace(config, steps=4))
    assert fitted
    assert load_router(router_path(checkpoint)).config.steps == 4
    assert again.quality == router.quality


def test_a_router_of_other_weights_is_refused_and_fitted_again(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RouterConfig(steps=3)
    router, _ = fit_checkpoint(checkpoint, config)
    replace(router, weights="0" * 64, step=2).save(router_path(checkpoint))
    with pytest.raises(ValueError, match=r"fitted on other weights, of step 2, .* of step 3"):
        load_trained(checkpoint)
    message = refusal(["generate", checkpoint, "--text", "a"], capsys)
    assert f"run `mot-lab fit-router {checkpoint}` again" in message
    _, fitted = fit_checkpoint(checkpoint, config)
    assert fitted
    assert load_trained(checkpoint).router is not None


def test_generating_needs_a_router(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = ["generate", checkpoint, "--text", "a picture", "--max-tokens", 3]
    assert "run `mot-lab fit-router` on the checkpoint" in refusal(text, capsys)
    main(["fit-router", str(checkpoint), "--steps", "3"])
    said = capsys.readouterr().out
    assert "2 routers of 320 weights, 3 steps" in said
    assert f"Written to {router_path(checkpoint)}" in said
    main(["fit-router", str(checkpoint), "--steps", "3"])
    assert "Kept as it was in" in capsys.readouterr().out
    main([str(each) for each in text])
    assert capsys.readouterr().out.startswith("a picture")
    drawn = ["generate", checkpoint, "--caption", "a cat", "--steps", 2, "--out", tmp_path]
    main([str(each) for each in drawn])
    assert (tmp_path / "0.png").exists()


def test_an_arm_without_experts_needs_no_router(
    runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs["dense"].checkpoint
    message = refusal(["fit-router", path], capsys)
    assert "is of arm dense, which has no experts" in message
    assert "there is no checkpoint" in refusal(["fit-router", path.parent / "no.ckpt"], capsys)
    assert not router_path(path).exists()


def test_a_run_is_scored_once_for_each_router(runs: dict[str, Run], checkpoint: Path) -> None:
    run = runs["mot_text_moe_4x"]
    target = run.folder.artifacts_path / "evaluation.json"

    def score() -> dict:
        evaluate_run(run)
        return json.loads(target.read_text())

    before = score()
    metrics = {metric["name"]: metric for metric in before["metrics"]}
    assert metrics["CIDEr"]["value"] is None
    assert "`mot-lab fit-router`" in metrics["CIDEr"]["note"]
    assert metrics["perplexity (validation), training routing"]["value"] > 1
    assert "perplexity (validation)" not in metrics
    assert before["routing"]["router"] is None
    assert [each["routing"] for each in before["causality"]] == ["training"]
    assert before["causality"][0]["leaks"]
    assert [sample.keys() & {"caption", "generated"} for sample in before["samples"]] == [set()]

    fit_run(run)
    after = score()
    metrics = {metric["name"]: metric for metric in after["metrics"]}
    assert all(metric["value"] is not None for metric in metrics.values())
    for name in ("perplexity", "diffusion loss"):
        for split in ("validation", "unseen combinations", "unseen emojis"):
            causal = metrics[f"{name} ({split})"]
            training = metrics[f"{name} ({split}), training routing"]
            assert causal["n"] == training["n"] > 0
            assert len(causal["draws"]) == len(training["draws"]) == 1000
            assert causal["low"] < causal["value"] < causal["high"]
            assert "training routing" in training["extractor"]
            assert "training routing" not in causal["extractor"]
    assert after["routing"]["router"]["steps"] == 3
    trained, data = load_trained(run.checkpoint), run.data_module()
    for routing in ("causal", "training"):
        with trained.module.net.transformer.routing(routing):
            losses = held_out_losses(trained.module.net, data.held_out_loader("test"))
        rows = [row[routing] for row in after["routing"]["losses"] if row["split"] == "test"]
        assert rows == [losses.mean("text"), losses.mean("image")]
        end = ", training routing" if routing == "training" else ""
        perplexity = metrics[f"perplexity (unseen combinations){end}"]["value"]
        assert perplexity == pytest.approx(math.exp(losses.mean("text")), rel=1e-9)
    splits = [(row["split"], row["modality"]) for row in after["routing"]["losses"]]
    assert splits == [(s, m) for s in ("val", "test", "unseen") for m in ("text", "image")]
    assert {each["routing"]: each["leaks"] for each in after["causality"]} == {
        "training": True,
        "causal": False,
    }
    assert after["samples"][0].keys() >= {"caption", "generated", "prompt", "reference"}
    for name in ("0.png", "0_real.png"):
        assert (target.parent / "samples" / name).exists()

    written = target.stat().st_mtime_ns
    evaluate_run(run)
    assert target.stat().st_mtime_ns == written
    fit_checkpoint(run.checkpoint, RouterConfig(steps=5))
    assert score()["routing"]["router"]["steps"] == 5


def test_a_run_without_experts_has_no_routing(runs: dict[str, Run]) -> None:
    evaluate_run(runs["dense"])
    target = runs["dense"].folder.artifacts_path / "evaluation.json"
    scored = json.loads(target.read_text())
    assert scored["routing"] is None
    (found,) = scored["causality"]
    assert (found["routing"], found["changed"], found["leaks"]) == ("none", 0, False)
    names = [metric["name"] for metric in scored["metrics"]]
    assert not any("routing" in name for name in names)
    assert "perplexity (validation)" in names


def test_a_checkpoint_of_other_weights_is_refused(
    runs: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of an earlier version, which called them otherwise."""
    kept = torch.load(runs["dense"].checkpoint, weights_only=True)
    weights = kept["state_dict"]
    weights["net.text.output.weight"] = weights.pop("net.autoregressive.output.weight")
    path = tmp_path / "checkpoint.ckpt"
    torch.save(kept, path)
    said = refusal(["generate", path, "--text", "a fish"], capsys)
    assert "net.autoregressive.output.weight for one: train the run again" in said
