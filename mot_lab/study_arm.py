"""The arms of a study: a wiring each, and how it is trained where that differs from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mot_lab.backbones.attending import Kernel
from mot_lab.backbones.transformer import ExpertGroup
from mot_lab.backbones.wiring import Arm, Wiring, parse_arm
from mot_lab.limits import MOST_STEPS, require_between
from mot_lab.module import ModelConfig
from mot_lab.parsing import Config, from_dict
from mot_lab.plain import plain
from mot_lab.runtime.finite_guard import BadSteps
from mot_lab.runtime.run_folder import flatten
from mot_lab.upcycling.start import start_sentence

MOST_NORM = 1e6
MOST_WORKERS = 256
MOST_DEVICES = 4096
OVERRIDE_KEYS = ("arm", "model", "training")
Strategy = Literal["ddp", "fsdp2"]
SAID = ("model.start_from", "model.freeze.towers", "model.freeze.vocabulary")  # in words


@dataclass
class TrainingConfig:
    """How long and how every arm is trained.

    Attributes:
        steps: optimiser steps.
        val_every: steps between two validations.
        log_every: steps between two logged training losses.
        checkpoint_every: steps between two checkpoints.
        gradient_clip: largest global gradient norm (1: Transfusion); 0 clips nothing.
        average_decay: of the averaged weights that generate; validation uses the raw ones.
        precision: ``auto`` is bf16 with fp32 master weights on a GPU and fp32 on the CPU (bf16 was
            measured 25 times slower there).
        num_workers: processes that pack batches ahead.
        bad_steps: what is done where a loss or the gradient is not finite, or a spike: ``stop`` the
            run (by default: an arm that leaves steps out is trained less than the others), or
            ``skip`` the optimiser's step and count it, which the report then says.
        spike_sigmas: standard deviations over the mean of the last 128 steps from which total loss
            or gradient norm are a spike. OLMo-core has 6; 0, no such rule, by default, because
            no paper that is compared with here says to have one.
        recompute: activation checkpointing, memory for time: a block's activations are computed
            again in the backward pass (`mot_lab.backbones.transformer.Transformer`).
        attention: its kernel. ``sdpa`` reads a dense mask of whole rows; ``documents`` one of each
            document, where that is less, but not under ``model.compile``; ``flex`` skips empty
            blocks of a mask (FlexAttention), and cannot train on the CPU. ``auto`` is ``flex`` on a
            GPU for rows of 1,024 places and more, because others gained by it there (1.59 times as
            many steps of BAGEL), ``sdpa`` for shorter ones; on the CPU ``documents``
            (``docs/speed.md``), or ``sdpa`` under ``model.compile``.
        devices: processes of a run on each machine, a GPU each, or sharing out the run's cores; the
            rows of a batch are shared out between all of them.
        num_nodes: machines of a run; more than one only where its processes are started from
            outside (``docs/distributed.md``).
        strategy: of several processes. ``ddp`` keeps all weights in each; ``fsdp2`` shards
            weights, gradients and optimiser over them.
        accumulate: passes that an optimiser step is made in, each over an equal part of the batch's
            rows: memory for time.
        expert_group: among which tokens experts choose, where several processes train together:
            those of all (``global``), as one process would, or each process's own (``rank``), as
            papers do, which saves an exchange of router scores in every layer. In both, tokens of
            one pass only (``accumulate``).
    """

    steps: int = 1000
    val_every: int = 25
    log_every: int = 10
    checkpoint_every: int = 200
    gradient_clip: float = 1.0
    average_decay: float = 0.999
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    num_workers: int = 0
    bad_steps: BadSteps = "stop"
    spike_sigmas: float = 0.0
    recompute: bool = False
    attention: Kernel = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Strategy = "ddp"
    accumulate: int = 1
    expert_group: ExpertGroup = "global"

    def __post_init__(self) -> None:
        cadence = ("val_every", "log_every", "checkpoint_every")
        require_between(self, 1, MOST_STEPS, "steps", *cadence)
        require_between(self, 0, MOST_NORM, "gradient_clip", "spike_sigmas")
        require_between(self, 0, MOST_WORKERS, "num_workers")
        require_between(self, 1, MOST_DEVICES, "devices", "num_nodes", "accumulate")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay {self.average_decay} must be at least 0 and below 1")
        if self.val_every > self.steps:
            raise ValueError(f"val_every {self.val_every} is more than the {self.steps} steps")

    @property
    def processes(self) -> int:
        """That train a run together."""
        return self.devices * self.num_nodes

    def expert_groups(self) -> int:
        """Groups that the tokens of an optimiser step fall into, among each of which experts
        choose.
        """
        return self.accumulate * (self.processes if self.expert_group == "rank" else 1)

    def require_rows(self, rows: int) -> None:
        """Raises ValueError where the rows of a batch cannot be shared out."""
        if rows % (self.processes * self.accumulate):
            raise ValueError(
                f"data.rows {rows} must be a multiple of training.devices {self.devices} x "
                f"training.num_nodes {self.num_nodes} x training.accumulate {self.accumulate}"
            )


@dataclass(frozen=True)
class StudyArm:
    """An arm of a study with everything that it is trained by, overrides settled.

    Attributes:
        name: of the arm, its runs' folders and its curves.
        description: one line that says what it is.
        spec: its wiring as `parse_arm` reads it.
        wiring: which modalities share which weights.
        model, training: the study's, with the arm's own changes.
    """

    name: str
    description: str
    spec: Any
    wiring: Wiring
    model: ModelConfig
    training: TrainingConfig


def settle_arm(
    entry: Any, modalities: Sequence[str], model: ModelConfig, training: TrainingConfig
) -> StudyArm:
    """An arm from its entry in a study's ``arms``: what it overrides is settled here, once.

    Args:
        entry: what `parse_arm` reads, or ``{name: {arm: .., model: {..}, training: {..}}}``.
        modalities: names in batch order.
        model, training: the study's, which hold where the entry says nothing.

    Raises:
        ValueError: an arm that is none, or overrides that are wrong; names the arm and the key.
    """
    name, changes = _overrides(entry)
    if name is None:
        arm = parse_arm(entry, modalities)
        return _study_arm(arm.name, arm, entry, model, training, {})
    spec = changes.pop("arm", None)
    try:
        if spec is None:
            raise ValueError("arm is missing: say which it is, like arm: mot")
        if unknown := [key for key in changes if key not in OVERRIDE_KEYS]:
            data = "; data is the same for every arm of a study" if "data" in unknown else ""
            raise ValueError(
                f"unknown key {unknown[0]}; there are {', '.join(OVERRIDE_KEYS)}{data}"
            )
        arm = parse_arm(spec, modalities)
        model = _changed(model, changes.get("model", {}), "model")
        training = _changed(training, changes.get("training", {}), "training")
    except ValueError as error:
        raise ValueError(f"arm {name!r}: {error}") from None
    return _study_arm(name, arm, spec, model, training, changes)


def _study_arm(
    name: str,
    arm: Arm,
    spec: Any,
    model: ModelConfig,
    training: TrainingConfig,
    changes: Mapping[str, Any],
) -> StudyArm:
    try:
        model.freeze.require_towers(arm.wiring)
    except ValueError as error:
        raise ValueError(f"arm {name!r}: model.{error}") from None
    if model.compile and training.strategy == "fsdp2":
        raise ValueError(
            f"arm {name!r}: model.compile is not available with training.strategy fsdp2: "
            "leave one of them out"
        )
    if model.compile and training.attention == "documents":
        raise ValueError(
            f"arm {name!r}: model.compile is not available with training.attention documents, "
            "whose shapes change from batch to batch: leave one of them out"
        )
    changed = [f"{key}={value}" for key, value in flatten(changes).items() if key not in SAID]
    described = [arm.description, *([", ".join(changed)] if changed else [])]
    if model.start_from is not None:
        described.append(start_sentence(model.start_from, arm.wiring))
    if model.freeze.active:
        described.append(model.freeze.sentence())
    return StudyArm(name, "; ".join(described), spec, arm.wiring, model, training)


def _overrides(entry: Any) -> tuple[str | None, dict[str, Any]]:
    """Name and changes of an entry that has any; None where it is a plain arm."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, value),) = entry.items()
        if isinstance(value, Mapping) and any(key in OVERRIDE_KEYS for key in value):
            return str(name), dict(value)
    return None, {}


def _changed(config: Config, changes: Any, where: str) -> Config:
    """A configuration with some of its values, at any depth, replaced and all checked again."""
    return from_dict(type(config), merged(plain(config), changes), where)


def merged(values: dict[str, Any], changes: Any) -> Any:
    """Settings with some of them, at any depth, replaced by those of ``changes``."""
    if not isinstance(changes, Mapping):
        return changes  # no mapping where settings belong: `from_dict` says so
    result = dict(values)
    for key, value in changes.items():
        inside = values.get(key)
        result[key] = merged(inside, value) if isinstance(inside, dict) else value
    return result
