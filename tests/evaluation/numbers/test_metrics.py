"""Both intervals of every metric, and differences from the baseline, against slow arithmetic."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from synthetic_evaluation import CLIP, clip_draws

from evaluation.numbers.metrics import metric_rows
from evaluation.report.tables import metrics_table
from evaluation.store.study_record import RunRecord, StudyRecord


def row(study: StudyRecord, arm: str, name: str = "CLIP score") -> dict[str, Any]:
    found = [one for one in metric_rows(study) if (one["arm"], one["name"]) == (arm, name)]
    assert len(found) == 1
    return found[0]


def one_seed(study: StudyRecord) -> StudyRecord:
    first = tuple(run for run in study.runs if run.seed == 0)
    return replace(study, seeds=(0,), runs=first)


def with_clip(study: StudyRecord, **changes: Any) -> StudyRecord:
    """The study with the CLIP score of MoT's runs changed."""

    def changed(run: RunRecord) -> RunRecord:
        metrics = tuple(
            replace(one, **changes) if one.name == "CLIP score" else one for one in run.metrics
        )
        return replace(run, metrics=metrics) if run.arm == "mot" else run

    return replace(study, runs=tuple(map(changed, study.runs)))


def test_interval_over_seeds_is_students(study: StudyRecord) -> None:
    clip = row(study, "mot")
    assert clip["value"] == pytest.approx(0.32) and clip["seeds"] == 2
    wanted = stats.t.interval(0.95, 1, loc=0.32, scale=stats.sem([0.31, 0.33]))
    assert (clip["seeds_low"], clip["seeds_high"]) == pytest.approx(wanted)
    assert (clip["low"], clip["high"]) == (clip["seeds_low"], clip["seeds_high"])
    assert clip["interval_over"] == "seeds"


def test_interval_over_samples_averages_the_seeds_draw_by_draw(study: StudyRecord) -> None:
    clip = row(study, "mot")
    means = [(a + b) / 2 for a, b in zip(clip_draws("mot", 0), clip_draws("mot", 1), strict=True)]
    wanted = np.quantile(means, [0.025, 0.975])
    assert (clip["samples_low"], clip["samples_high"]) == pytest.approx(wanted)
    assert clip["n"] == 256


def test_difference_is_paired_by_seed(study: StudyRecord) -> None:
    difference = row(study, "moe_4x")["difference"]
    assert difference["value"] == pytest.approx(CLIP["moe_4x"] - CLIP["dense"])
    # a seed moves both arms alike, so the paired differences agree although the scores do not
    assert difference["high"] - difference["low"] == pytest.approx(0, abs=1e-12)
    assert (difference["interval_over"], difference["seeds"]) == ("seeds", 2)
    assert row(study, "dense")["difference"] is None


def test_difference_of_one_seed_is_over_samples(study: StudyRecord) -> None:
    clip = row(one_seed(study), "mot")
    assert clip["seeds_low"] is None and clip["interval_over"] == "samples"
    assert (clip["low"], clip["high"]) == (clip["samples_low"], clip["samples_high"])
    wanted = np.quantile(clip_draws("mot", 0) - clip_draws("dense", 0), [0.025, 0.975])
    difference = clip["difference"]
    assert difference["value"] == pytest.approx(0.01)
    assert (difference["low"], difference["high"]) == pytest.approx(wanted)
    assert (difference["interval_over"], difference["seeds"]) == ("samples", 1)
    # aligned draws: the difference is far less uncertain than either score
    assert difference["high"] - difference["low"] < 0.3 * (clip["high"] - clip["low"])


@pytest.mark.parametrize("changes", [{"n": 255}, {"draws": ()}])
def test_draws_that_do_not_align_give_no_interval(study: StudyRecord, changes) -> None:
    clip = row(with_clip(one_seed(study), **changes), "mot")
    assert clip["samples_low"] is not None  # that of the metric itself stays
    assert clip["difference"]["value"] == pytest.approx(0.01)
    assert clip["difference"]["low"] is None and clip["difference"]["interval_over"] is None


def test_extractors_are_never_mixed(study: StudyRecord) -> None:
    other = with_clip(study, extractor="another")
    assert row(other, "mot")["difference"] is None
    assert row(other, "mot")["value"] == pytest.approx(0.32)


def test_a_table_tells_extractors_apart_and_marks_training_routing(study: StudyRecord) -> None:
    def labels(of: StudyRecord) -> list[tuple[Any, ...]]:
        rows = metrics_table({"metrics": metric_rows(of), "arms": of.arms}).rows
        return [tuple(row[:2]) for row in rows if str(row[0]).startswith("CLIP")]

    assert labels(study) == [("CLIP score", arm) for arm in ("dense", "moe_4x", "mot")]
    assert labels(with_clip(study, extractor="another"))[1:] == [
        ("CLIP score (scenes-clip)", "moe_4x"),
        ("CLIP score (another)", "mot"),
    ]
    leaking = with_clip(study, name="CLIP score, training routing")
    assert labels(leaking)[-1] == ("CLIP score, training routing", "mot †")


def test_a_metric_of_some_seeds_says_of_how_many(study: StudyRecord) -> None:
    runs = list(study.runs)
    place = next(i for i, run in enumerate(runs) if (run.arm, run.seed) == ("mot", 1))
    metrics = [replace(one, value=None, low=None, high=None, note="x") for one in runs[0].metrics]
    runs[place] = replace(runs[place], metrics=tuple(metrics))
    clip = row(replace(study, runs=tuple(runs)), "mot")
    assert clip["value"] == pytest.approx(0.31) and clip["seeds"] == 1
    assert "Available in 1 of 2 seeds only." in clip["note"]
    assert clip["difference"]["seeds"] == 1 and clip["difference"]["interval_over"] == "samples"


def test_what_is_not_available_has_no_interval(study: StudyRecord) -> None:
    cider = row(study, "moe_4x", "CIDEr")
    assert all(cider[key] is None for key in ("value", "low", "samples_low", "difference"))
    assert cider["seeds"] == 0
    assert row(study, "mot", "CIDEr")["difference"]["value"] == pytest.approx(0.5)
    assert row(study, "mot", "CIDEr")["samples_low"] is None  # two seeds, no draws
