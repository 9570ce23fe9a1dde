"""What the runs cost as they trained, per arm over seeds."""

from typing import Any

import numpy as np

from evaluation.bootstrap import seed_interval
from evaluation.store.study_record import StudyRecord

COSTS = (
    *("seconds_per_step", "tokens_per_second", "model_flop_utilisation"),
    *("peak_memory_gb", "waiting_share", "compile_seconds"),
)


def run_costs(study: StudyRecord) -> dict[str, Any]:
    """By arm: each cost's mean with its interval over seeds, how many seeds logged it, and the
    peak that utilisation is a share of. Without the costs that none of the runs logged.
    """
    return {arm: _of_arm(study, arm) for arm in study.arms}


def _of_arm(study: StudyRecord, arm: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in COSTS:
        values = [run.costs[name] for run in study.of_arm(arm) if name in run.costs]
        if values:
            low, high = seed_interval(np.array(values))
            found[name] = {
                "value": float(np.mean(values)),
                "low": low,
                "high": high,
                "seeds": len(values),
            }
    peak = study.peaks.get(arm)
    return {"costs": found, "peak": peak.source if peak else None}
