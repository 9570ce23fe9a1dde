"""``report.json``: every number of a report, from the study's record alone.

The text, the tables and the legends of a report are made from this dictionary and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluation.bootstrap import mean_interval
from evaluation.comparison import Comparison, compare
from evaluation.matching import Curve
from evaluation.metric import Metric
from evaluation.study_record import CURVES, Sample, StudyRecord

SCHEMA = 1  # of report.json: raised when a field changes its meaning or goes
FEW_SEEDS = 5
TRAIN_TAIL = 0.1  # a final training loss is the mean over this last part of its points
SAMPLES = 12


def report_numbers(study: StudyRecord) -> dict[str, Any]:
    """The content of ``report.json``: plain numbers, strings, lists and dictionaries.

    Intervals are 95% bootstrap intervals over seeds; ``None`` with one seed. A metric of a study
    with one seed keeps its interval over samples, and ``interval_over`` says which one it is.
    """
    return {
        "schema": SCHEMA,
        "study": study.name,
        "setting": study.setting,
        "baseline": study.baseline,
        "seeds": list(study.seeds),
        "modalities": list(study.modalities),
        "steps": study.steps,
        "warmup_steps": study.warmup_steps,
        "tokens_per_step": dict(study.tokens_per_step),
        "arms": {arm: _arm(study, arm) for arm in study.arms},
        "matching": [_matching(one) for one in compare(study)],
        "losses": [
            _loss(study, arm, modality, curve)
            for modality in study.modalities
            for curve in CURVES
            for arm in study.arms
        ],
        "metrics": [row for arm in study.arms for row in _metrics(study, arm)],
        "samples": _samples(study),
        "tokenizers": dict(study.tokenizers),
        "evaluators": dict(study.evaluators),
        "environment": dict(study.environment),
        "notes": _notes(study),
        "config": study.config,
    }


def _arm(study: StudyRecord, arm: str) -> dict[str, Any]:
    facts, baseline = study.arms[arm], study.arms[study.baseline]
    return {
        **asdict(facts),
        "flops_per_modality": dict(facts.flops_per_modality),
        "flops_ratio": facts.flops_per_step / baseline.flops_per_step,
        "seconds_ratio": facts.seconds_per_step / baseline.seconds_per_step,
        "loss_sees_other_tokens": study.sees_other_tokens(arm),
    }


def _matching(one: Comparison) -> dict[str, Any]:
    over_seeds = one.matching
    return {
        "arm": one.arm,
        "modality": one.modality,
        "axis": one.axis,
        "curve": one.curve,
        "slope": over_seeds.slope,
        "slope_low": over_seeds.slope_low,
        "slope_high": over_seeds.slope_high,
        "end_ratio": over_seeds.end_ratio,
        "end_ratio_low": over_seeds.end_ratio_low,
        "end_ratio_high": over_seeds.end_ratio_high,
        "reached": over_seeds.reached,
        "seeds_reached": over_seeds.seeds_reached,
        "seeds": over_seeds.seeds,
        "points_reached": sum(seed.points_reached for seed in over_seeds.per_seed),
        "points_total": sum(seed.points_total for seed in over_seeds.per_seed),
    }


def _loss(study: StudyRecord, arm: str, modality: str, curve: str) -> dict[str, Any]:
    values = [_final(one, curve) for one in study.curves(arm, modality, curve)]
    low, high = mean_interval(np.array(values))
    return {
        "arm": arm,
        "modality": modality,
        "curve": curve,
        "value": float(np.mean(values)),
        "low": low,
        "high": high,
        "seeds": len(values),
    }


def _final(loss: Curve, curve: str) -> float:
    """The last validation loss; of a training loss, which is noisy, the mean of its tail."""
    points = 1 if curve == "val" else max(1, round(len(loss.values) * TRAIN_TAIL))
    return float(loss.values[-points:].mean())


def _metrics(study: StudyRecord, arm: str) -> list[dict[str, Any]]:
    """The arm's metrics over seeds, never across extractors, in the order they were measured in."""
    found: dict[tuple[str, str], dict[int, Metric]] = {}
    for run in study.of_arm(arm):
        for metric in run.metrics:
            found.setdefault((metric.name, metric.extractor), {})[run.seed] = metric
    return [{"arm": arm, **_metric_over_seeds(seeds)} for seeds in found.values()]


def _metric_over_seeds(by_seed: Mapping[int, Metric]) -> dict[str, Any]:
    values = [metric.value for metric in by_seed.values() if metric.value is not None]
    some = next((m for m in by_seed.values() if m.value is not None), next(iter(by_seed.values())))
    low, high = mean_interval(np.array(values, dtype=np.float64))
    if len(values) == 1:
        low, high = some.low, some.high
    notes = list(dict.fromkeys(metric.note for metric in by_seed.values() if metric.note))
    if 0 < len(values) < len(by_seed):
        notes.append(f"Available in {len(values)} of {len(by_seed)} seeds only.")
    return {
        "name": some.name,
        "value": float(np.mean(values)) if values else None,
        "low": low,
        "high": high,
        "n": some.n,
        "extractor": some.extractor,
        "ceiling": _mean([metric.ceiling for metric in by_seed.values()]),
        "floor": _mean([metric.floor for metric in by_seed.values()]),
        "note": " ".join(notes),
        "interval_over": None if low is None else "seeds" if len(values) > 1 else "samples",
        "per_seed": [
            {"seed": seed, "value": metric.value, "low": metric.low, "high": metric.high}
            for seed, metric in by_seed.items()
        ],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def first_seed_samples(study: StudyRecord) -> dict[str, dict[str, Sample]]:
    """Prompt -> arm -> the sample of its first seed's run, for the first few held-out scenes."""
    by_prompt: dict[str, dict[str, Sample]] = {}
    for arm in study.arms:
        for sample in study.of_arm(arm)[0].samples:
            by_prompt.setdefault(sample.prompt, {})[arm] = sample
    return dict(list(by_prompt.items())[:SAMPLES])


def _samples(study: StudyRecord) -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt,
            "references": list(next(iter(arms.values())).references),
            "captions": {arm: arms[arm].caption if arm in arms else None for arm in study.arms},
        }
        for prompt, arms in first_seed_samples(study).items()
    ]


def _notes(study: StudyRecord) -> list[str]:
    return [*_seed_notes(study), *_routing_notes(study), *_dropped_notes(study), *study.notes]


def _seed_notes(study: StudyRecord) -> list[str]:
    seeds = len(study.seeds)
    if seeds == 1:
        return [
            "This study has one seed: there is no interval over seeds, and a difference between "
            "arms may be chance."
        ]
    if seeds < FEW_SEEDS:
        return [
            f"Intervals over {seeds} seeds: a bootstrap of so few values spans about their range "
            "and covers less than the 95% it is named after."
        ]
    return []


def _routing_notes(study: StudyRecord) -> list[str]:
    leaking = [arm for arm in study.arms if study.sees_other_tokens(arm)]
    if not leaking:
        return []
    return [
        f"{', '.join(leaking)}: training and validation losses, and the matching made from them, "
        "are under the expert-choice routing of training, in which an expert picks its tokens by "
        "comparing all tokens of the batch, later ones included. A loss that sees other tokens is "
        "not that of a causal model: do not compare it with the other arms' as if it were."
    ]


def _dropped_notes(study: StudyRecord) -> list[str]:
    return [
        f"{run.arm}-seed{run.seed}: {count} points of {curve}/{modality}/loss were not finite and "
        "are left out of its curve."
        for run in study.runs
        for (modality, curve), count in run.dropped.items()
        if count
    ]
