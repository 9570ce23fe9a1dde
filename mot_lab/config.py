"""What a study is, as typed data: one YAML file, read and checked before anything is prepared."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mot_lab.backbones.partitions import expand_arms
from mot_lab.causal_router import RouterConfig
from mot_lab.data.prepare import DataConfig
from mot_lab.extractor_names import NOT_OF_SCENES, parse_extractor
from mot_lab.heads.diffusion import TRAIN_STEPS
from mot_lab.limits import MOST_SEED, MOST_THINGS, require_between
from mot_lab.module import ModelConfig
from mot_lab.paper_figures import check_paper_figures
from mot_lab.parsing import from_dict, shown, under
from mot_lab.runtime.plain_files import parse_yaml, read_yaml
from mot_lab.slurm.config import SlurmConfig
from mot_lab.step_time_ratios import check_step_time_ratios
from mot_lab.study_arm import StudyArm, TrainingConfig, settle_arm

Setting = Literal["transfusion", "chameleon", "chameleon_speech"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_PARALLEL = 256
MOST_SEEDS = 1000


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

    def __post_init__(self) -> None:
        require_between(self, 2, MOST_THINGS, "images")
        require_between(self, 1, TRAIN_STEPS, "sample_steps")
        require_between(self, 0, MOST_THINGS, "shown")
        if self.shown > self.images:
            raise ValueError(f"shown {self.shown} is more than the {self.images} images")
        for extractor in self.extractors:
            parse_extractor(extractor).require_weights()


@dataclass
class StudyConfig:
    """Arms x seeds on one setting.

    Attributes:
        name: of the study and of its folder.
        arms: names, partitions, or entries ``{name: partition}``; an entry ``{name: {arm: ..,
            model: {..}, training: {..}}}`` is any of these with changes to the study's own
            ``model`` and ``training``. Data is the same for all. ``all_partitions``, alone or in
            the list, stands for every way to share all weights between the modalities.
        setting: ``transfusion`` (autoregressive text, diffusion images), ``chameleon`` (all
            autoregressive) or ``chameleon_speech``; it must fit what ``data`` says of the tokens.
        baseline: the arm that the others are matched against.
        seeds: every arm is trained once with each; arms share batches seed by seed.
        parallel_runs: runs trained at the same time, sharing out the cores. No result depends on
            it but the wall clock, which is measured apart, with as many threads.
        router: of the causal routing that arms with experts are evaluated under.
        paper: figures of the MoT paper whose slopes the report sets beside the study's, like
            ``figure_6`` or, of one size, ``figure_6/443M`` (`mot_lab.paper_figures`).
        step_time_ratios: seconds per step of an arm in those of the baseline, as somebody else
            measured them (the paper implies 1.36 for MoT, 1.69 for MoE-4x): time matching is
            given at these too, beside the times measured here.
        slurm: what jobs ask a cluster for, under ``--launcher slurm``.
    """

    name: str
    arms: list[Any] | Literal["all_partitions"]
    setting: Setting = "transfusion"
    baseline: str = "dense"
    seeds: list[int] = field(default_factory=lambda: [0])
    parallel_runs: int = 1
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    paper: list[str] = field(default_factory=list)
    step_time_ratios: dict[str, float] = field(default_factory=dict)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.parsed_arms]
        for key, name in (("", self.name), *(("arms: ", each) for each in names)):
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{key}name {shown(name)} must be letters, digits, '.', '_' and '-', at most "
                    "100, the first a letter or digit"
                )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"seeds {shown(self.seeds)} must be different whole numbers from 0, at least one"
            )
        if len(self.seeds) > MOST_SEEDS:
            raise ValueError(f"seeds {shown(self.seeds)} must be at most {MOST_SEEDS}")
        require_between(self, 0, MOST_SEED, "seeds")
        require_between(self, 1, MOST_PARALLEL, "parallel_runs")
        if len(set(names)) != len(names):
            raise ValueError(
                f"arms {shown(names)} must not repeat a name; name one by {{name: partition}}"
            )
        if self.baseline not in names:
            raise ValueError(f"baseline {shown(self.baseline)} is none of the arms {names}")
        self._require_setting()
        self._require_codec()
        for arm in self.parsed_arms:
            arm.training.require_rows(self.data.rows)
        check_paper_figures(self.paper, self.baseline)
        check_step_time_ratios(self.step_time_ratios, names, self.baseline)
        if self.data.own and "scene_clip" in self.evaluation.extractors:
            raise ValueError(
                f"{self.data.own_by} is own data, and evaluation.extractors must name what knows "
                f"it: {NOT_OF_SCENES}"
            )
        if not self.data.own and self.data.eval_scenes < self.evaluation.images:
            raise ValueError(
                f"evaluation.images {self.evaluation.images} is more than the "
                f"data.eval_scenes {self.data.eval_scenes} of the test split"
            )

    def _require_setting(self) -> None:
        """What ``data`` says of the tokens is what the setting is."""
        discrete, speech = self.data.image.kind == "vq", self.data.speech is not None
        if self.setting == "transfusion":
            if discrete:
                raise ValueError(
                    "setting transfusion denoises its images: data.image.kind must be vae or "
                    "pixels, not vq"
                )
        elif not discrete:
            raise ValueError(
                f"setting {self.setting} predicts its images as codes: data.image.kind must be vq, "
                f"not {self.data.image.kind}"
            )
        elif speech != (self.setting == "chameleon_speech"):
            raise ValueError(
                f"setting {self.setting} {'has' if not speech else 'has no'} speech: "
                f"{'give data.speech' if not speech else 'say chameleon_speech'}"
            )

    def _require_codec(self) -> None:
        """The U-Net of an arm halves the sides of a patch."""
        if (latents := self.data.interface().latents) is None:
            return
        for arm in self.parsed_arms:
            if arm.model.diffusion.codec == "unet" and latents.patch & (latents.patch - 1):
                raise ValueError(
                    f"data.patch {latents.patch} must be a power of two: the U-Net codec of arm "
                    f"{arm.name} halves its side"
                )

    @cached_property
    def parsed_arms(self) -> list[StudyArm]:
        """The arms, in order."""
        modalities = self.data.interface().modalities
        with under("arms"):
            entries = expand_arms(self.arms, modalities)
            return [settle_arm(entry, modalities, self.model, self.training) for entry in entries]


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study of a YAML file, with ``key.sub=value`` overrides.

    Raises:
        ValueError: a missing or unreadable file, or whatever is wrong in it, in one line.
    """
    values = read_settings(path, overrides)
    if "ladder" in values:
        raise ValueError(f"{path}: ladder: the file is of several studies, for mot-lab study only")
    try:
        return from_dict(StudyConfig, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_settings(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a YAML file holds, with ``key.sub=value`` overrides, unchecked.

    Raises:
        ValueError: a missing or unreadable file, or an override of another form.
    """
    if not path.is_file():
        raise ValueError(f"no configuration {path}")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}, not a mapping of settings")
    for override in overrides:
        _override(values, override)
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise ValueError(f"override {shown(override)} is not of the form key.sub=value")
    *parents, last = key.split(".")
    for parent in parents:
        inside = values.get(parent, {})
        if not isinstance(inside, dict):
            raise ValueError(f"override {shown(override)}: {shown(parent)} holds no settings")
        values[parent] = dict(inside)  # another alias of it in the file stays as it is
        values = values[parent]
    values[last] = parse_yaml(text, f"override {key}")
