"""A study is read back as it was written; what is missing is said, never left out in silence."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from synthetic_evaluation import NO_CAPTION, causality, clip_draws, fairness, routing
from synthetic_study import SPREAD, loss, write_synthetic_study

from evaluation.store.metric_history import (
    client_histories,
    database_histories,
    read_curves,
    read_histories,
)
from evaluation.store.read import read_study
from evaluation.store.study_record import StudyRecord

SMALL = {"dense": {"text": 1.0, "image": 1.0}, "mot": {"text": 0.8, "image": 0.6}}


def test_reads_what_was_written(study: StudyRecord) -> None:
    assert list(study.arms) == ["dense", "moe_4x", "mot"]
    assert [(run.arm, run.seed) for run in study.runs] == [
        (arm, seed) for arm in study.arms for seed in (0, 1)
    ]
    assert study.baseline == "dense" and study.modalities == ("text", "image")
    assert study.arms["mot"].parameters == 3_000_000
    assert study.arms["mot"].flops_per_modality["image"] == pytest.approx(1.5e11)
    assert study.config.startswith("study: synthetic\n")
    first, second = study.curves("mot", "image", "val")
    assert first.steps.tolist() == list(range(10, 401, 10))
    np.testing.assert_array_equal(first.values, loss(first.steps, 0.6 * (1 - SPREAD), "image"))
    np.testing.assert_array_equal(second.values, loss(first.steps, 0.6 * (1 + SPREAD), "image"))


def test_reads_metrics_and_samples(study: StudyRecord) -> None:
    clip, cider = study.of_arm("moe_4x")[1].metrics
    assert (clip.name, clip.ceiling, clip.floor) == ("CLIP score", 0.41, 0.05)
    assert clip.value == pytest.approx(0.30)
    assert cider.value is None and cider.note == NO_CAPTION
    sample = study.of_arm("mot")[0].samples[1]
    assert sample.prompt == "a star on yellow" and sample.caption == "caption of a star on yellow"
    assert sample.references == ("a star on yellow", "there is a star on yellow")
    assert sample.generated.startswith(b"\x89PNG") and sample.generated != sample.reference
    assert study.of_arm("moe_4x")[0].samples[0].caption is None


def test_only_expert_choice_is_marked(study: StudyRecord) -> None:
    marks = {arm: study.sees_other_tokens(arm) for arm in study.arms}
    assert marks == {"dense": False, "moe_4x": True, "mot": False}


def test_unknown_arm_and_modality_are_named(study: StudyRecord) -> None:
    with pytest.raises(ValueError, match=r"no arm 'mto'.*'dense', 'moe_4x', 'mot'"):
        study.of_arm("mto")
    with pytest.raises(ValueError, match="of 'speech'"):
        study.curves("mot", "speech", "val")


def test_missing_store_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tracking store"):
        read_study(f"sqlite:///{tmp_path / 'mlflow.db'}", "demo")
    assert not list(tmp_path.iterdir())


def test_missing_study_lists_those_there(store) -> None:
    with pytest.raises(ValueError, match=r"no study 'typo'.*'synthetic'"):
        read_study(store.uri, "typo")


def test_unfinished_runs_are_all_listed(store) -> None:
    wanting = [("dense", 1), ("mot", 0)]
    artifacts = store.folder / "broken"
    write_synthetic_study(store.uri, artifacts, "broken", SMALL, unfinished=wanting)
    message = r"2 of 4 runs are wanting: dense-seed1 \(RUNNING\); mot-seed0 \(RUNNING\)"
    with pytest.raises(ValueError, match=message):
        read_study(store.uri, "broken")


def test_runs_outside_the_study_are_noted(store) -> None:
    parent = write_synthetic_study(store.uri, store.folder / "more", "more", SMALL, seeds=[3])
    client = MlflowClient(store.uri)
    tags = {"mlflow.parentRunId": parent, "mot_lab.kind": "run"}
    tags |= {"mot_lab.arm": "untie_ffn", "mot_lab.seed": "3"}
    client.create_run(client.get_run(parent).info.experiment_id, tags=tags)
    notes = read_study(store.uri, "more").notes
    assert notes[-1].endswith("no part of this study, left out: untie_ffn-seed3.")


def test_reads_routing_causality_draws_and_fairness(study: StudyRecord) -> None:
    moe, mot = study.of_arm("moe_4x")[1], study.of_arm("mot")[1]
    assert moe.routing == routing(1) and mot.routing is None
    assert list(moe.causality) == causality(1)
    assert [row["routing"] for row in mot.causality] == ["none"]
    assert moe.metrics[0].draws == tuple(clip_draws("moe_4x", 1))
    assert study.fairness == fairness(["dense", "moe_4x", "mot"])


def test_a_study_of_an_earlier_version_still_reads(store) -> None:
    arms = {"dense": {"text": 1.0, "image": 1.0}, "moe_4x": {"text": 0.5, "image": 1.25}}
    parent = write_synthetic_study(store.uri, store.folder / "old", "old", arms, seeds=[0])
    client = MlflowClient(store.uri)
    for run in client.search_runs([client.get_run(parent).info.experiment_id]):
        name = "study.json" if run.info.run_id == parent else "evaluation.json"
        path = Path(client.download_artifacts(run.info.run_id, name, str(store.folder / "old")))
        content = json.loads(path.read_text())
        for key in ("fairness", "routing", "causality"):
            content.pop(key, None)
        for metric in content.get("metrics", []):
            metric.pop("draws", None)
        client.log_dict(run.info.run_id, content, name)
    old = read_study(store.uri, "old")
    assert old.fairness is None
    assert all(run.routing is None and run.causality == () for run in old.runs)
    assert all(metric.draws == () for run in old.runs for metric in run.metrics)
    # without the evaluation's word, the tokens that a run logged as unrouted give experts away
    assert [old.sees_other_tokens(arm) for arm in arms] == [False, True]


@pytest.fixture(scope="module")
def resumed(store) -> Run:
    """A run with a step logged twice, and points that were not finite."""
    client = MlflowClient(store.uri)
    run_id = client.create_run(client.create_experiment("resumed")).info.run_id
    points = [(3.0, 1, 1), (2.5, 2, 2), (9.0, 3, 3)]  # value, time, step
    points += [(2.0, 4, 3), (float("nan"), 5, 4), (float("inf"), 6, 5), (1.5, 7, 6)]
    client.log_batch(run_id, metrics=[Metric("loss", *point) for point in points])
    client.log_batch(
        run_id, metrics=[Metric("nonfinite/loss", 1.0, *at) for at in [(1, 3), (8, 7)]]
    )
    client.log_batch(run_id, metrics=[Metric("other", 7.0, 1, 1), Metric("other", 6.0, 2, 2)])
    return client.get_run(run_id)


def test_later_record_of_a_step_counts_and_nonfinite_points_are_counted(store, resumed) -> None:
    (curve, dropped), (other, none) = read_curves(
        MlflowClient(store.uri), resumed, ["loss", "other"]
    )
    assert curve.steps.tolist() == [1, 2, 3, 6]
    assert curve.values.tolist() == [3.0, 2.5, 2.0, 1.5]
    assert dropped == 3  # steps 4, 5 and 7; step 3 was run again
    assert other.values.tolist() == [7.0, 6.0] and none == 0
    with pytest.raises(ValueError, match="has no metric 'val/loss'"):
        read_curves(MlflowClient(store.uri), resumed, ["val/loss"])


def test_the_database_and_the_client_give_the_same_records(store, resumed, study) -> None:
    client = MlflowClient(store.uri)
    asked = [(resumed.info.run_id, ["loss", "nonfinite/loss", "never logged"])]
    asked += [(run.run_id, ["train/text/loss", "val/image/loss"]) for run in study.runs]
    records = 0
    for run_id, metrics in asked:
        fast = database_histories(store.uri, run_id, metrics)
        slow = client_histories(client, run_id, metrics)
        assert list(fast) == list(slow) == metrics
        for metric in metrics:
            rows = [
                sorted(zip(one.steps_R, one.times_R, map(repr, one.values_R.tolist()), strict=True))
                for one in (fast[metric], slow[metric])
            ]
            assert rows[0] == rows[1]
            records += len(rows[0])
    assert records == 7 + 2 + 6 * (100 + 40)


def test_a_store_that_is_no_database_is_read_through_the_client(store, study, monkeypatch) -> None:
    run_id = study.runs[0].run_id
    direct = read_histories(MlflowClient(store.uri), run_id, ["val/text/loss"])["val/text/loss"]
    client = MlflowClient(store.uri)
    # a server answers as the store behind it does: only the address differs
    monkeypatch.setattr(MlflowClient, "tracking_uri", "http://localhost:1")
    served = read_histories(client, run_id, ["val/text/loss"])["val/text/loss"]
    assert sorted(served.values_R) == sorted(direct.values_R)
