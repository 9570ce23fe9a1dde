"""A study is read back as it was written; what is missing is said, never left out in silence."""

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from evaluation.store import read_curve, read_study
from evaluation.study_record import StudyRecord
from tests.synthetic_study import NO_CAPTION, SPREAD, loss, write_synthetic_study

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
    assert (clip.name, clip.value, clip.ceiling, clip.floor) == ("CLIP score", 0.32, 0.41, 0.05)
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


def test_later_record_of_a_step_counts_and_nonfinite_points_are_counted(store) -> None:
    client = MlflowClient(store.uri)
    run_id = client.create_run(client.create_experiment("resumed")).info.run_id
    points = [(3.0, 1, 1), (2.5, 2, 2), (9.0, 3, 3)]  # value, time, step
    points += [(2.0, 4, 3), (float("nan"), 5, 4), (float("inf"), 6, 5), (1.5, 7, 6)]
    client.log_batch(run_id, metrics=[Metric("loss", *point) for point in points])
    client.log_batch(
        run_id, metrics=[Metric("nonfinite/loss", 1.0, *at) for at in [(1, 3), (8, 7)]]
    )
    curve, dropped = read_curve(client, client.get_run(run_id), "loss")
    assert curve.steps.tolist() == [1, 2, 3, 6]
    assert curve.values.tolist() == [3.0, 2.5, 2.0, 1.5]
    assert dropped == 3  # steps 4, 5 and 7; step 3 was run again
