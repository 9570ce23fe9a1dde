"""What is known of a finished study: plain typed records, filled by ``evaluation.store.read``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluation.curve import Curve
from evaluation.metric import Metric
from mot_lab.counting import ArmCost
from mot_lab.utilisation import Peak

CURVES = ("train", "val")


@dataclass(frozen=True)
class ArmFacts(ArmCost):
    """What an arm costs from its structure, and its seconds on the machine of the study."""

    seconds_per_step: float


@dataclass(frozen=True)
class Sample:
    """One held-out scene: its prompt, the picture made for it, and the caption made of it.

    Pictures are PNG files as bytes; ``None`` where the arm did not make one.
    """

    prompt: str
    generated: bytes | None
    reference: bytes | None
    caption: str | None
    references: tuple[str, ...]


@dataclass(frozen=True)
class SpokenSample:
    """One held-out recording: what is said in it, and what the arm made of it.

    Sounds are WAV files as bytes: the recording as its units sound, and the transcript as the arm
    spoke it. ``heard`` is the transcript that the arm wrote. None where it did not.
    """

    text: str
    recording: bytes | None
    heard: str | None
    spoken: bytes | None


@dataclass(frozen=True)
class RunRecord:
    """One arm with one seed; ``curves`` and ``dropped`` by (modality, "train" or "val").

    ``routing`` and ``causality`` are those of ``evaluation.json``: losses under training and
    causal routing, the router and its experts (None for arms without experts); and what the probe
    found that changes the future and compares the past. ``costs`` is what the run cost as it
    trained, ``run_cost/*`` of `mot_lab.runtime.step_timer`. Runs of earlier versions lack all.
    """

    run_id: str
    arm: str
    seed: int
    curves: Mapping[tuple[str, str], Curve]
    dropped: Mapping[tuple[str, str], int]  # points that were not finite and were left out
    metrics: tuple[Metric, ...]
    samples: tuple[Sample, ...]
    speech: tuple[SpokenSample, ...]
    sees_other_tokens: bool  # its loss is under expert-choice routing, which reads later tokens
    routing: Mapping[str, Any] | None = None
    causality: tuple[Mapping[str, Any], ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRecord:
    """A finished study: every arm with every seed, in the order of ``study.json``.

    ``fairness`` is that of ``study.json``: the checks that ran before the study started. None in
    studies of earlier versions. ``step_time_ratios`` says at which ratios of seconds per step, by
    arm, time matching is given besides the measured one.
    """

    run_id: str
    name: str
    setting: str
    baseline: str
    seeds: tuple[int, ...]
    modalities: tuple[str, ...]
    arms: Mapping[str, ArmFacts]
    runs: tuple[RunRecord, ...]
    steps: int
    warmup_steps: int
    tokens_per_step: Mapping[str, float]
    tokenizers: Mapping[str, Any]
    evaluators: Mapping[str, Any]
    environment: Mapping[str, Any]
    config: str
    notes: tuple[str, ...] = field(default=())
    fairness: Mapping[str, Any] | None = None
    paper: tuple[str, ...] = ()  # figures of the paper to be set beside it
    step_time_ratios: Mapping[str, float] = field(default_factory=dict)
    starts: Mapping[str, Any] = field(default_factory=dict)  # models that arms began from, by arm
    peaks: Mapping[str, Peak] = field(default_factory=dict)  # of the hardware, by arm

    def of_arm(self, arm: str) -> list[RunRecord]:
        """The arm's runs, in the order of the study's seeds; ValueError for an unknown arm."""
        if arm not in self.arms:
            raise ValueError(f"study {self.name!r} has no arm {arm!r}; it has {list(self.arms)}")
        return [run for run in self.runs if run.arm == arm]

    def curves(self, arm: str, modality: str, curve: str) -> list[Curve]:
        """One loss curve per seed; ``curve`` is "train" or "val"."""
        if modality not in self.modalities or curve not in CURVES:
            raise ValueError(
                f"study {self.name!r} has no {curve!r} loss of {modality!r}; "
                f"it has {CURVES} of {self.modalities}"
            )
        return [run.curves[modality, curve] for run in self.of_arm(arm)]

    def diffuses(self, modality: str) -> bool:
        """Whether the modality's loss is an error of denoising, not a cross-entropy."""
        return self.setting == "transfusion" and modality == "image"

    def sees_other_tokens(self, arm: str) -> bool:
        """Whether the arm's losses are under a routing that reads other (also later) tokens."""
        return any(run.sees_other_tokens for run in self.of_arm(arm))
