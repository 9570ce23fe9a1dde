"""``report.json``: every number of a report, from the study's record alone.

The text, the tables and the legends of a report are made from this dictionary and nothing else.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from evaluation.bootstrap import LEVEL, seed_interval
from evaluation.curve import Curve
from evaluation.matching.comparison import Comparison, compare
from evaluation.matching.sensitivity import sensitivity
from evaluation.numbers.metrics import metric_rows
from evaluation.numbers.notes import alerts, notes
from evaluation.numbers.routing import causality_rows, expert_choice
from evaluation.numbers.run_costs import run_costs
from evaluation.numbers.sensitivity import slope_ranges
from evaluation.paper.numbers import paper_numbers
from evaluation.store.study_record import CURVES, Sample, SpokenSample, StudyRecord
from evaluation.trained.causality import TOLERANCE

SCHEMA = 1  # of report.json: raised when a field changes its meaning or goes
TRAIN_TAIL = 0.1  # a final training loss is the mean over this last part of its points
SAMPLES = 12


def report_numbers(study: StudyRecord) -> dict[str, Any]:
    """The content of ``report.json``: plain numbers, strings, lists and dictionaries.

    Intervals over seeds are ``None`` with one seed. A metric of a study with one seed keeps its
    interval over samples, and ``interval_over`` says which one it is.
    """
    causality = causality_rows(study)
    compared = compare(study)
    slopes = [asdict(variant) for variant in sensitivity(study)]
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
        "method": {
            "confidence_percent": round(100 * LEVEL),
            "causality_tolerance": TOLERANCE,
            "train_tail_percent": round(100 * TRAIN_TAIL),
        },
        "alerts": alerts(study, causality),
        "notes": notes(study),
        "arms": {arm: _arm(study, arm) for arm in study.arms},
        "run_costs": run_costs(study),
        "fairness": _fairness(study),
        "matching": [_matching(one) for one in compared],
        "step_time_ratios": dict(study.step_time_ratios),
        "matching_at_ratio": _at_stated_ratios(study, compared),
        "losses": [
            _loss(study, arm, modality, curve)
            for modality in study.modalities
            for curve in CURVES
            for arm in study.arms
        ],
        "paper": paper_numbers(study.paper, study.arms, study.modalities),
        "expert_choice": expert_choice(study),
        "causality": causality,
        "metrics": metric_rows(study),
        "samples": _samples(study),
        "speech": _speech(study),
        "tokenizers": dict(study.tokenizers),
        "evaluators": dict(study.evaluators),
        "environment": dict(study.environment),
        "sensitivity": slopes,
        "slope_ranges": slope_ranges(slopes),
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
        "upcycled": bool(study.starts.get(arm, {}).get("upcycled")),
        "started_from": study.starts.get(arm, {}).get("path"),
    }


def _fairness(study: StudyRecord) -> dict[str, Any] | None:
    """The study's fairness checks, and the routers' FLOPs as a share of the baseline's step."""
    if study.fairness is None:
        return None
    whole = study.arms[study.baseline].flops_per_step
    routers = study.fairness["router_flops_per_step"]
    return {
        **study.fairness,
        "router_percent_of_baseline_flops": {
            arm: 100 * flops / whole for arm, flops in routers.items()
        },
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
        "points_low": over_seeds.points_low,
        "points_high": over_seeds.points_high,
        "end_ratio": over_seeds.end_ratio,
        "end_ratio_low": over_seeds.end_ratio_low,
        "end_ratio_high": over_seeds.end_ratio_high,
        "reached": over_seeds.reached,
        "seeds_reached": over_seeds.seeds_reached,
        "seeds": over_seeds.seeds,
        "points_reached": sum(seed.points_reached for seed in over_seeds.per_seed),
        "points_total": sum(seed.points_total for seed in over_seeds.per_seed),
    }


def _at_stated_ratios(study: StudyRecord, compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Time matching had a step of the arm taken ``ratio`` times as long as one of the baseline."""
    rows = []
    for one in compared:
        if one.axis == "steps" and one.arm in study.step_time_ratios:
            ratio = study.step_time_ratios[one.arm]
            stated = replace(one, axis="seconds", matching=one.matching.on_axis(1.0, ratio))
            rows.append({**_matching(stated), "ratio": ratio})
    return rows


def _loss(study: StudyRecord, arm: str, modality: str, curve: str) -> dict[str, Any]:
    values = [_final(one, curve) for one in study.curves(arm, modality, curve)]
    low, high = seed_interval(np.array(values))
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


def first_seed_samples(study: StudyRecord) -> dict[str, dict[str, Sample]]:
    """Prompt -> arm -> the sample of its first seed's run, for the first few held-out scenes."""
    by_prompt: dict[str, dict[str, Sample]] = {}
    for arm in study.arms:
        for sample in study.of_arm(arm)[0].samples:
            by_prompt.setdefault(sample.prompt, {})[arm] = sample
    return dict(list(by_prompt.items())[:SAMPLES])


def first_seed_speech(study: StudyRecord) -> dict[str, dict[str, SpokenSample]]:
    """Number and text of a recording -> arm -> the sample of its first seed's run."""
    by_recording: dict[str, dict[str, SpokenSample]] = {}
    for arm in study.arms:
        for number, sample in enumerate(study.of_arm(arm)[0].speech[:SAMPLES], start=1):
            by_recording.setdefault(f"{number}. {sample.text}", {})[arm] = sample
    return by_recording


def _speech(study: StudyRecord) -> list[dict[str, Any]]:
    return [
        {"recording": name, "heard": {arm: sample.heard for arm, sample in arms.items()}}
        for name, arms in first_seed_speech(study).items()
    ]


def _samples(study: StudyRecord) -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt,
            "references": list(next(iter(arms.values())).references),
            "captions": {arm: arms[arm].caption if arm in arms else None for arm in study.arms},
        }
        for prompt, arms in first_seed_samples(study).items()
    ]
