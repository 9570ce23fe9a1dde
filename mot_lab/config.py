"""What a study is, as typed data: one YAML file, read and checked before anything is prepared."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from mot_lab.backbones.wiring import Arm, parse_arm
from mot_lab.data.prepare import DataConfig
from mot_lab.module import ModelConfig

Config = TypeVar("Config")


@dataclass
class TrainingConfig:
    """How long and how every arm is trained.

    Attributes:
        steps: optimiser steps.
        val_every: steps between two validations.
        log_every: steps between two logged training losses.
        checkpoint_every: steps between two checkpoints.
        gradient_clip: largest global gradient norm (1: Transfusion).
        average_decay: of the averaged weights that generate; validation uses the raw ones.
        precision: ``auto`` is bf16 with fp32 master weights on a GPU and fp32 on the CPU (bf16 was
            measured 25 times slower there).
        num_workers: processes that pack batches ahead.
    """

    steps: int = 1000
    val_every: int = 25
    log_every: int = 10
    checkpoint_every: int = 200
    gradient_clip: float = 1.0
    average_decay: float = 0.999
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "val_every", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.val_every > self.steps:
            raise ValueError(f"val_every {self.val_every} is more than the {self.steps} steps")


@dataclass
class EvaluationConfig:
    """What every run is scored on when it has been trained.

    Attributes:
        images: pictures generated for captions of the test split, and captions written for its
            pictures.
        sample_steps: denoising steps.
        shown: how many of them the report shows.
        extractors: of Fréchet distances and CLIP scores: ``scene_clip`` (a small open_clip model
            trained on the scenes), ``inception`` (FID) or ``inception:/path/of/weights.pth``,
            ``efficientnet_lite0``, or any open_clip model as ``name/pretrained tag``,
            ``name//path/of/checkpoint``, ``hf-hub:org/name`` or ``local-dir:/path``.
    """

    images: int = 256
    sample_steps: int = 50
    shown: int = 8
    extractors: list[str] = field(default_factory=lambda: ["scene_clip"])


@dataclass
class StudyConfig:
    """Arms x seeds on one setting.

    Attributes:
        name: of the study and of its folder.
        arms: names, partitions, or entries ``{name: partition}``.
        setting: ``transfusion`` (autoregressive text, diffusion images).
        baseline: the arm that the others are matched against.
        seeds: every arm is trained once with each; arms share batches seed by seed.
        parallel_runs: runs trained at the same time, sharing out the cores. No result depends on
            it but the wall clock, which is measured apart, with as many threads.
    """

    name: str
    arms: list[Any]
    setting: Literal["transfusion"] = "transfusion"
    baseline: str = "dense"
    seeds: list[int] = field(default_factory=lambda: [0])
    parallel_runs: int = 1
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name {self.name!r} may hold letters, digits, '.', '_' and '-' only")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(
                f"seeds {self.seeds} must be different whole numbers from 0, at least one"
            )
        if self.parallel_runs < 1:
            raise ValueError(f"parallel_runs {self.parallel_runs} must be at least 1")
        names = [arm.name for arm in self.parsed_arms()]
        if len(set(names)) != len(names):
            raise ValueError(f"arms {names} repeat a name; name one by {{name: partition}}")
        if self.baseline not in names:
            raise ValueError(f"baseline {self.baseline!r} is none of the arms {names}")
        if self.data.eval_scenes < self.evaluation.images:
            raise ValueError(
                f"evaluation.images {self.evaluation.images} is more than the "
                f"data.eval_scenes {self.data.eval_scenes} of the test split"
            )

    def parsed_arms(self) -> list[Arm]:
        """The arms, in order."""
        modalities = self.data.interface().modalities
        return [parse_arm(spec, modalities) for spec in self.arms]


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """A configuration from plain values, every key and type checked.

    Raises:
        ValueError: one line that names the key, the value and what is allowed.
    """
    _check_keys(kind, values)
    parser = _parser(kind)
    try:
        return parser.instantiate(parser.parse_object({"config": values})).config
    except (ArgumentError, TypeError) as error:
        raise ValueError(_as_written(error)) from None


def _check_keys(kind: type[Any], values: object, path: str = "") -> None:
    """Refuse what jsonargparse lets pass or names otherwise than it was written: unknown keys
    that hold nothing, and values where settings belong.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or kind.__name__}: {values!r} must be a mapping of settings")
    known = [each.name for each in fields(kind)]
    types = get_type_hints(kind)
    for key, value in values.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in known:
            raise ValueError(f"unknown key {name}: {value!r}; there are {', '.join(known)}")
        if is_dataclass(types[key]):
            _check_keys(types[key], value, name)


def _as_written(error: Exception) -> str:
    """jsonargparse's message, with the key as the user wrote it."""
    text = re.sub(r'Parser key "config\.([^"]*)"', r"\1", one_line(error))
    text = re.sub(r"<class '(\w+)'>", r"\1", text).replace("typing.", "")
    text = re.sub(r"Expected an? ", "expected ", text)
    return text.replace(" config.", " ")


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study of a YAML file, with ``key.sub=value`` overrides.

    Raises:
        ValueError: a missing or unreadable file, or whatever is wrong in it, in one line.
    """
    if not path.is_file():
        raise ValueError(f"no configuration {path}")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {one_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}, not a mapping of settings")
    for override in overrides:
        _override(values, override)
    try:
        return from_dict(StudyConfig, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ValueError(f"override {override!r} is not of the form key.sub=value")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ValueError(f"override {override!r}: {parent} holds no settings")
    values[last] = yaml.safe_load(text)


def one_line(error: Exception) -> str:
    """An error's message without line breaks or repeated blanks."""
    return " ".join(str(error).split())


def _parser(kind: type[Any]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    return parser
