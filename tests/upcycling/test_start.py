"""``model.start_from`` of a study: what runs begin with, what is said of it, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reliability.small_runs import Interrupted, interrupted_at
from tiny_studies import TINY_SCENES
from upcycling.language_models import (
    SMALL,
    language_model,
    our_logits,
    random_tokens,
    save,
    save_tokenizers,
    their_logits,
)

from mot_lab.config import StudyConfig
from mot_lab.counting import arm_cost, nominal_workload
from mot_lab.earlier_runs import require_same_settings
from mot_lab.fairness import check_fairness
from mot_lab.parsing import from_dict
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.study_record import start_notes, starts
from mot_lab.tokens.text import TextTokenizer
from mot_lab.trained import load_trained
from mot_lab.training import Run, runs_of, train
from mot_lab.upcycling.start import local_path, require_startable, start_digest, start_network

BACKBONE = {
    "width": 32,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "feed_forward_width": 72,
    "norm_eps": 1e-6,
    "qk_norm": "none",
    "rope_base": 500_000.0,
}


ARMS = ["dense", "mot", "moe_4x"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its tokenizer beside it, and ours beside the folder."""
    folder = tmp_path_factory.mktemp("llama") / "model"
    entries = save_tokenizers(folder, folder.parent / "tokenizer.json")
    return save(language_model("llama", num_key_value_heads=2, vocab_size=entries + 20), folder)


def study(llama: Path | str, arms: list[Any], steps: int = 2, **model: Any) -> StudyConfig:
    tokenizer = Path(llama).parent / "tokenizer.json"
    values = {
        "name": "started",
        "arms": arms,
        "data": {**TINY_SCENES, "row_length": 128, "text": {"path": str(tokenizer)}},
        "model": {
            "backbone": BACKBONE,
            "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 1},
            "start_from": str(llama),
            **model,
        },
        "training": {"steps": steps, "val_every": 1, "log_every": 1, "checkpoint_every": 1},
        "evaluation": {"images": 4, "sample_steps": 2, "shown": 1, "extractors": []},
    }
    return from_dict(StudyConfig, values)


@pytest.fixture(scope="module")
def runs(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Trained for two steps."""
    runs = runs_of(study(llama, ARMS), tmp_path_factory.mktemp("runs"))
    for run in runs:
        train(run, None)
    return {run.arm: run for run in runs}


def fairness_of(runs: list[Run]) -> dict[str, dict[str, Any]]:
    interface = runs[0].config.data.interface()
    workload = nominal_workload(runs[0].config.data)
    costs = {run.arm: arm_cost(run.study_arm, interface, workload) for run in runs}
    found = check_fairness(runs, runs[0].config.baseline, costs, workload)
    return {check["what"]: check for check in found.record(False)["checks"]}


def test_runs_begin_with_the_language_model(llama: Path, runs: dict[str, Run]) -> None:
    """What `train` starts from, before its first step, writes as `transformers` does."""
    for arm in ("dense", "mot"):
        run, data = runs[arm], runs[arm].data_module()
        module = run.module()
        texts = data.prepared.texts
        started = start_network(module.net, data.interface, str(llama), texts.ids(), run.seed)
        entries = texts.vocab_size - 5  # <pad>, <bos>, <eos> and two of images
        assert (started.copied, started.new) == (entries + 2, 3)  # its own <bos> and <eos> are 1, 2
        tokens_BS = random_tokens(entries)
        theirs = their_logits(
            language_model("llama", num_key_value_heads=2, vocab_size=300), tokens_BS
        )
        ours = our_logits(module.net, tokens_BS)
        assert theirs.std() > 0.3
        assert (ours[..., :entries] - theirs[..., :entries]).abs().max() <= 1e-5
        weight = module.net.autoregressive.embedding.weight
        assert torch.equal(weight[texts.bos_id], weight[1])


def test_the_tokenizer_beside_the_model_serves_as_it_is(llama: Path) -> None:
    """It gets the special tokens that somebody else had added by hand."""
    by_hand = TextTokenizer.load(llama.parent / "tokenizer.json", ("image",))
    assert TextTokenizer.load(llama, ("image",)).ids() == by_hand.ids()


def test_what_a_run_began_from_is_in_its_checkpoint_its_folder_and_the_record(
    llama: Path, runs: dict[str, Run]
) -> None:
    kept = load_checkpoint(runs["mot"].checkpoint)["started"]
    assert kept["path"] == str(llama) and kept["digest"] == start_digest(str(llama))
    assert (kept["new"], kept["by_id"], kept["codec"]) == (3, False, False)
    assert json.loads(runs["mot"].folder.start_path.read_text()) == kept
    found = starts(list(runs.values()))
    assert {arm: each["upcycled"] for arm, each in found.items()} == {
        "dense": False,
        "mot": True,
        "moe_4x": True,
    }
    dense, mot, moe = start_notes(list(runs.values()))
    digest = start_digest(str(llama))
    assert dense.startswith(f"dense began as the Dense model {llama} ({digest}), with 282 of its")
    assert "mot is upcycled: all its towers began as copies of the Dense model" in mot
    assert "all its towers and experts began as copies of (experts near the function" in moe
    assert runs["mot"].study_arm.description.endswith(f"; upcycled from {llama}")
    assert runs["dense"].study_arm.description.endswith(f"; starts from {llama}")


def test_fairness_says_what_arms_begin_from(llama: Path, tmp_path: Path) -> None:
    alike = fairness_of(runs_of(study(llama, ["dense", "mot"]), tmp_path))
    text = f"{llama} ({start_digest(str(llama))})"
    assert alike["initial weights"]["values"] == {"dense": text, "mot": text}
    assert alike["initial weights"]["equal"]
    assert alike["upcycled"]["values"]["mot"] == f"upcycled from {llama}"
    arms = ["dense", {"fresh": {"arm": "mot", "model": {"start_from": None}}}]
    unlike = fairness_of(runs_of(study(llama, arms), tmp_path))
    assert unlike["initial weights"]["values"]["fresh"] == "random weights"
    assert not unlike["initial weights"]["equal"]


def test_training_that_goes_on_does_not_begin_again(
    llama: Path, runs: dict[str, Run], tmp_path: Path
) -> None:
    """Interrupted after one step and gone on with, a run ends with the weights of one in one go."""
    half, _, _ = runs_of(study(llama, ARMS), tmp_path)
    with pytest.raises(Interrupted), interrupted_at(1):
        train(half, None)
    assert load_checkpoint(half.checkpoint)["global_step"] == 1
    train(half, None)
    resumed, whole = load_checkpoint(half.checkpoint), load_checkpoint(runs["dense"].checkpoint)
    assert resumed["global_step"] == whole["global_step"] == 2
    assert resumed["started"] == whole["started"]
    for name, weight in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name


def test_a_trained_dense_run_is_upcycled(llama: Path, runs: dict[str, Run], tmp_path: Path) -> None:
    """With the weights that generate, the patch codec and every entry of the vocabulary."""
    path = runs["dense"].checkpoint
    config = study(llama, ["dense", "mot"], start_from=str(path))
    dense = load_trained(path)
    _, run = runs_of(config, tmp_path)
    module = run.module()
    started = start_network(module.net, config.data.interface(), str(path))
    assert (started.new, started.codec) == (0, True)
    batch = next(iter(run.data_module().train_loader(1)))
    with torch.no_grad():
        expected, actual = dense.module.net(batch), module.net(batch)
    assert (actual.logits_LV - expected.logits_LV).abs().max() <= 1e-5
    assert (actual.prediction_NCHW - expected.prediction_NCHW).abs().max() <= 1e-5
    assert run.study_arm.description.endswith(f"; upcycled from {path}")
    with pytest.raises(ValueError, match="is of arm mot: only Dense"):
        start_network(module.net, config.data.interface(), str(runs["mot"].checkpoint))


def test_a_model_that_changed_since_is_another_run(
    llama: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_same_settings(list(runs.values()))
    monkeypatch.setattr("mot_lab.training.start_digest", lambda _: "0" * 16)
    with pytest.raises(ValueError, match=r"started_from was .*, is 0000000000000000"):
        require_same_settings(list(runs.values()))


def test_what_an_arm_cannot_begin_from_is_said_before_training(llama: Path, tmp_path: Path) -> None:
    config = study(llama, ["dense"], backbone={**BACKBONE, "rope_base": 10_000.0})
    with pytest.raises(ValueError, match=r"model.backbone has other rope_base than .*: give"):
        fairness_of(runs_of(config, tmp_path))
    with pytest.raises(ValueError, match="no model to start from at '/no/such'"):
        fairness_of(runs_of(study(llama, ["dense"], start_from="/no/such"), tmp_path))
    with pytest.raises(ValueError, match="start_from '' must be the path"):
        study(llama, ["dense"], start_from="")


def test_paths(llama: Path) -> None:
    assert local_path(str(llama)) == llama
    backbone = study(llama, ["dense"]).model.backbone
    require_startable(str(llama), backbone)
    assert SMALL["hidden_size"] == backbone.width
