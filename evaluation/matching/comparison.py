"""Every arm of a study matched with its baseline: per modality, loss curve and axis."""

from dataclasses import dataclass

from evaluation.matching.seeds import SeedMatching, match_over_seeds
from evaluation.matching.steps import AXES, Axis
from evaluation.store.study_record import CURVES, StudyRecord


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline: which loss (``curve`` is "train" or "val"), on which axis."""

    arm: str
    modality: str
    curve: str
    axis: Axis
    matching: SeedMatching


def compare(study: StudyRecord) -> list[Comparison]:
    """Matches every arm but the baseline, for every modality, curve and axis."""
    return [
        Comparison(arm, modality, curve, axis, _on_axis(study, arm, axis, matching))
        for arm in study.arms
        if arm != study.baseline
        for modality in study.modalities
        for curve in CURVES
        for matching in [match_arm(study, arm, modality, curve)]
        for axis in AXES
    ]


def cost_per_step(study: StudyRecord, arm: str, axis: Axis) -> float:
    """What one optimiser step of the arm costs on the axis: 1 step, its FLOPs, its seconds."""
    facts = study.arms[arm]
    return {"steps": 1.0, "flops": facts.flops_per_step, "seconds": facts.seconds_per_step}[axis]


def match_arm(
    study: StudyRecord, arm: str, modality: str, curve: str, axis: Axis = "steps"
) -> SeedMatching:
    """Matches one arm with the baseline, past the study's warm-up, paired by seed."""
    matching = match_over_seeds(
        study.curves(study.baseline, modality, curve),
        study.curves(arm, modality, curve),
        warmup=study.warmup_steps,
    )
    return _on_axis(study, arm, axis, matching)


def _on_axis(study: StudyRecord, arm: str, axis: Axis, matching: SeedMatching) -> SeedMatching:
    costs = (cost_per_step(study, one, axis) for one in (study.baseline, arm))
    return matching.on_axis(*costs)
