"""A ladder: one study at several rungs, such as widths (the paper's figures 6, 9, 12 and 24) or
batch sizes (figure 18).

The file is that of a study with one more key: ``ladder`` names the rungs and says what each of them
changes in the study. Every rung is a study of its own, in a folder of its own below the ladder's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from mot_lab.backbones.transformer import Transformer
from mot_lab.config import NAME, StudyConfig
from mot_lab.earlier_runs import require_same_settings
from mot_lab.flops import count_parameters
from mot_lab.ladder_record import RECORD, SCHEMA
from mot_lab.parsing import from_dict, require_keys, shown
from mot_lab.runtime.files import write_json
from mot_lab.study_arm import merged
from mot_lab.training import runs_of

RUNG_KEYS = ("data", "model", "training", "parallel_runs")
REPORT_FOLDERS = ("figures", "tables")

Along = Literal["size", "batch"]


@dataclass(frozen=True)
class Rung:
    """One study of a ladder.

    Attributes:
        config: of the study, which is named ``<ladder>-<rung>``.
        text: its YAML, which `mot-lab study` would run alone.
        parameters: of the baseline, embeddings and heads left out.
        places: of a batch, padding included.
    """

    name: str
    config: StudyConfig
    text: str
    parameters: int
    places: int

    def is_finished(self, folder: Path) -> bool:
        """Whether a folder holds this very study, run to its report."""
        config = folder / "config.yaml"
        if not (config.is_file() and (folder / "report.html").is_file()):
            return False
        return config.read_text() == self.text


@dataclass(frozen=True)
class Ladder:
    """Several studies of the same arms.

    Attributes:
        name: of the ladder and of its folder.
        along: what the rungs differ in: ``size`` (non-embedding parameters) or ``batch`` (places
            per batch); where they differ in both it is a ladder of sizes.
        rungs: in the order of the file.
    """

    name: str
    along: Along
    rungs: tuple[Rung, ...]

    def begin(self, folder: Path) -> None:
        """Write ``ladder.json`` into the ladder's folder.

        Raises:
            ValueError: a rung's folder holds runs of other settings.
        """
        for rung in self.rungs:
            require_same_settings(runs_of(rung.config, folder / rung.name))
        folder.mkdir(parents=True, exist_ok=True)
        rungs = {
            rung.name: {
                "study": rung.config.name,
                "parameters": rung.parameters,
                "places": rung.places,
            }
            for rung in self.rungs
        }
        record = {"schema": SCHEMA, "ladder": self.name, "along": self.along, "rungs": rungs}
        write_json(folder / RECORD, record)


def read_ladder(values: Mapping[str, Any], where: str) -> Ladder:
    """The ladder of a file's settings (`mot_lab.config.read_settings`), every rung checked.

    Raises:
        ValueError: whatever is wrong in it, in one line that begins with ``where``.
    """
    study = {key: value for key, value in values.items() if key != "ladder"}
    try:
        require_keys(StudyConfig, study, "")
        name, changes = study["name"], values["ladder"]
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                f"name {shown(name)} must be one of letters, digits, '.', '_' and '-', in quotes "
                "if it looks like a number"
            )
        if not isinstance(changes, Mapping) or len(changes) < 2:
            raise ValueError(
                f"ladder: {shown(changes)} must name at least two rungs, like "
                "{w64: {model: {backbone: {width: 64}}}, w128: {model: {backbone: {width: 128}}}}"
            )
        rungs = tuple(_rung(name, str(key), study, each) for key, each in changes.items())
        return Ladder(name, _along(rungs), rungs)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _rung(ladder: str, name: str, study: dict[str, Any], changes: Any) -> Rung:
    if not NAME.fullmatch(name) or name in REPORT_FOLDERS:
        raise ValueError(
            f"ladder.{name}: a rung is named by letters, digits, '.', '_' and '-', and "
            f"neither {' nor '.join(REPORT_FOLDERS)}"
        )
    if not isinstance(changes, Mapping) or not set(changes) <= set(RUNG_KEYS):
        raise ValueError(
            f"ladder.{name}: {shown(changes)} must be settings below {', '.join(RUNG_KEYS)}; all "
            "else is the same at every rung"
        )
    try:
        _require_settings(study, changes)
        values = {**merged(study, changes), "name": f"{ladder}-{name}"}
        config = from_dict(StudyConfig, values)
    except ValueError as error:
        raise ValueError(f"ladder.{name}: {error}") from None
    text = f"# Rung {name} of the ladder {ladder}.\n" + yaml.safe_dump(values, sort_keys=False)
    places = config.data.rows * config.data.row_length
    return Rung(name, config, text, _baseline_parameters(config), places)


def _require_settings(study: Any, changes: Any, where: str = "") -> None:
    """Refuse a study whose value the rung's settings would replace unread."""
    for key, change in changes.items():
        if isinstance(change, Mapping) and study.get(key) is not None:
            if not isinstance(study[key], Mapping):
                raise ValueError(
                    f"{where}{key}: {shown(study[key])} must be settings, as the rung's are: "
                    f"{shown(change)}"
                )
            _require_settings(study[key], change, f"{where}{key}.")


def _baseline_parameters(config: StudyConfig) -> int:
    """Those of the baseline's backbone: all that the size labels of the paper's figures vary."""
    arm = next(arm for arm in config.parsed_arms if arm.name == config.baseline)
    with torch.device("meta"):
        return count_parameters(Transformer(arm.model.backbone, arm.wiring))


def _along(rungs: tuple[Rung, ...]) -> Along:
    sizes = [rung.parameters for rung in rungs]
    places = [rung.places for rung in rungs]
    if len(set(sizes)) == len(rungs):
        return "size"
    if len(set(places)) == len(rungs):
        return "batch"
    raise ValueError(
        f"ladder: every rung must differ from the others in model.backbone (parameters now: "
        f"{sizes}) or in data.rows * data.row_length (now: {places})"
    )
