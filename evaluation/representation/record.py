"""What was found out about the hidden states of some checkpoints: ``representation.json``."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.representation.separation import MEASURES, Score
from mot_lab.runtime.files import atomic_file
from mot_lab.runtime.plain_files import laid_out, read_json

SCHEMA = 1  # raised when a field changes its meaning or goes
FILE = "representation.json"
DIGITS = 5  # significant ones of a point
COLUMNS = ("label", "arm", "step", "routing", "layer", "depth", "measure", "value", "low", "high")


@dataclass(frozen=True)
class Depth:
    """One layer of one arm.

    Attributes:
        name: like ``block 3`` (`evaluation.representation.states.depth_names`).
        points: of each sampled token, along the first two principal components of the layer.
        explained: the components' shares of the variance.
        scores: by measure.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    explained: tuple[float, ...]
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class ArmStates:
    """One checkpoint.

    Attributes:
        label: what figures call it: the arm, with the seed where that is needed.
        arm: name of the arm.
        checkpoint: path.
        step: of its training.
        routing: ``none`` without experts, else ``causal`` or ``training``.
        depths: from the embedding to the final norm.
    """

    label: str
    arm: str
    checkpoint: str
    step: int
    routing: str
    depths: tuple[Depth, ...]


@dataclass(frozen=True)
class Representation:
    """Some checkpoints, the same tokens of the same held-out batches.

    Attributes:
        split, seed: which tokens.
        noised: whether denoised pictures were fed with noise.
        modalities: names that ``modality`` counts from 0.
        modality: of each token.
        documents: that the tokens stand in.
        arms: what each checkpoint makes of them.
    """

    split: str
    seed: int
    noised: bool
    modalities: tuple[str, ...]
    modality: tuple[int, ...]
    documents: int
    arms: tuple[ArmStates, ...]

    def counts(self) -> dict[str, int]:
        """Tokens of each modality."""
        return {name: self.modality.count(i) for i, name in enumerate(self.modalities)}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A line per arm, layer and measure, as ``COLUMNS``."""
        for arm in self.arms:
            for layer, depth in enumerate(arm.depths):
                for measure, score in depth.scores.items():
                    of = (arm.label, arm.arm, arm.step, arm.routing, layer, depth.name)
                    yield (*of, measure, score.value, score.low, score.high)


def write_representation(found: Representation, folder: Path) -> None:
    """Write ``representation.json`` and ``scores.csv``."""
    content = {"schema": SCHEMA, "measures": MEASURES, **asdict(found)}
    for arm in content["arms"]:
        for depth in arm["depths"]:
            depth["points"] = [[_short(x), _short(y)] for x, y in depth["points"]]
    with atomic_file(folder / FILE) as file:
        file.write(json.dumps(content).encode() + b"\n")
    with atomic_file(folder / "scores.csv") as file:
        for row in (COLUMNS, *found.rows()):
            file.write((",".join(_cell(value) for value in row) + "\n").encode())


def read_representation(folder: Path) -> Representation:
    """What `write_representation` wrote.

    Raises:
        ValueError: nothing there, or of another version.
    """
    path = folder / FILE
    if not path.exists():
        raise ValueError(f"{folder} holds no {FILE}: run `mot-lab represent` first")
    content = read_json(path)
    with laid_out(path):
        if content["schema"] != SCHEMA:
            raise ValueError(f"{path} has schema {content['schema']}; this version reads {SCHEMA}")
        return _representation(content)


def _representation(content: Mapping[str, Any]) -> Representation:
    arms = tuple(
        ArmStates(**{**arm, "depths": tuple(_depth(depth) for depth in arm["depths"])})
        for arm in content["arms"]
    )
    return Representation(
        content["split"],
        content["seed"],
        content["noised"],
        tuple(content["modalities"]),
        tuple(content["modality"]),
        content["documents"],
        arms,
    )


def _depth(content: Mapping[str, Any]) -> Depth:
    return Depth(
        content["name"],
        tuple((x, y) for x, y in content["points"]),
        tuple(content["explained"]),
        {measure: Score(**score) for measure, score in content["scores"].items()},
    )


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _cell(value: Any) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if {",", '"', "\n"} & set(text) else text
