"""The metrics of a report: means over seeds, both intervals, and the difference from the baseline.

Never across extractors: a metric is its name and what measured it.

Shapes: S seeds, D bootstrap draws.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.bootstrap import Interval, paired_difference, percentile_interval, seed_interval
from evaluation.metric import Metric
from evaluation.store.study_record import StudyRecord

BySeed = Mapping[int, Metric]


def metric_rows(study: StudyRecord) -> list[dict[str, Any]]:
    """A row per arm and metric, in the order they were measured in.

    ``low`` and ``high`` are the interval over seeds where there is one, else that over samples;
    ``interval_over`` says which. Both intervals stand in the row as well.
    """
    measured = {arm: _by_metric(study, arm) for arm in study.arms}
    baseline = measured[study.baseline]
    return [
        {
            "arm": arm,
            **_over_seeds(by_seed),
            "difference": _difference(by_seed, baseline[key])
            if arm != study.baseline and key in baseline
            else None,
        }
        for arm, metrics in measured.items()
        for key, by_seed in metrics.items()
    ]


def _by_metric(study: StudyRecord, arm: str) -> dict[tuple[str, str], BySeed]:
    found: dict[tuple[str, str], dict[int, Metric]] = {}
    for run in study.of_arm(arm):
        for metric in run.metrics:
            found.setdefault((metric.name, metric.extractor), {})[run.seed] = metric
    return {**found}


def _over_seeds(by_seed: BySeed) -> dict[str, Any]:
    having = [metric for metric in by_seed.values() if metric.value is not None]
    values = np.array([metric.value for metric in having], dtype=np.float64)
    some = next(iter(having or by_seed.values()))
    notes = list(dict.fromkeys(metric.note for metric in by_seed.values() if metric.note))
    if 0 < len(having) < len(by_seed):
        notes.append(f"Available in {len(having)} of {len(by_seed)} seeds only.")
    over_seeds, over_samples = seed_interval(values), _over_samples(having)
    main, which = (over_seeds, "seeds") if len(having) > 1 else (over_samples, "samples")
    return {
        "name": some.name,
        "value": float(values.mean()) if having else None,
        "low": main[0],
        "high": main[1],
        "interval_over": None if main[0] is None else which,
        "seeds": len(having),
        "seeds_low": over_seeds[0],
        "seeds_high": over_seeds[1],
        "n": some.n,
        "samples_low": over_samples[0],
        "samples_high": over_samples[1],
        "draws": len(some.draws),
        "extractor": some.extractor,
        "ceiling": _mean([metric.ceiling for metric in by_seed.values()]),
        "floor": _mean([metric.floor for metric in by_seed.values()]),
        "note": " ".join(notes),
        "per_seed": [
            {"seed": seed, "value": metric.value, "low": metric.low, "high": metric.high}
            for seed, metric in by_seed.items()
        ],
    }


def _over_samples(having: list[Metric]) -> Interval:
    """Interval of the mean over seeds had other samples been drawn: every seed is scored on the
    same samples, so their draws are averaged draw by draw.
    """
    if len(having) == 1:
        return having[0].low, having[0].high  # type: ignore[return-value]  # both or neither
    draws = _aligned(having)
    return (None, None) if draws is None else percentile_interval(draws.mean(axis=0))


def _difference(arm: BySeed, baseline: BySeed) -> dict[str, Any] | None:
    """Arm less baseline over the seeds that both have, paired by seed; None without such seeds.

    With one such seed the interval is over samples, from the draws that both have in common; there
    is none where they were not scored on equally many samples.
    """
    pairs = [
        (arm[seed], baseline[seed])
        for seed in arm
        if seed in baseline and None not in (arm[seed].value, baseline[seed].value)
    ]
    if not pairs:
        return None
    of_arm = np.array([one.value for one, _ in pairs], dtype=np.float64)
    of_baseline = np.array([one.value for _, one in pairs], dtype=np.float64)
    value, interval = paired_difference(of_arm, of_baseline)
    over = "seeds"
    if len(pairs) == 1:
        draws = _aligned(pairs[0])
        interval = (None, None) if draws is None else percentile_interval(draws[0] - draws[1])
        over = "samples"
    low, high = interval
    return {
        "value": value,
        "low": low,
        "high": high,
        "interval_over": None if low is None else over,
        "seeds": len(pairs),
    }


def _aligned(metrics: list[Metric] | tuple[Metric, ...]) -> np.ndarray | None:
    """The draws of metrics over the same samples, float64 [S, D]; None where they do not align."""
    if not metrics or len({(metric.n, len(metric.draws)) for metric in metrics}) > 1:
        return None
    return np.array([metric.draws for metric in metrics]) if metrics[0].draws else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
