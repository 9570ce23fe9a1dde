"""The notebooks of comparison run on finished studies and draw what they promise."""

import json
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from synthetic_study import ISOLATIONS, SLOPES, write_synthetic_study
from tiny_studies import TINY_SCENES

from mot_lab.config import StudyConfig
from mot_lab.parsing import from_dict
from mot_lab.training import runs_of, train

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SETTINGS = {
    "name": "compared",
    "arms": ["dense", "mot"],
    "data": {**TINY_SCENES, "val_rows": 16},
    "model": {
        "backbone": {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 1},
    },
    "training": {"steps": 1, "val_every": 1, "log_every": 1, "checkpoint_every": 1},
    "evaluation": {"images": 2, "sample_steps": 2, "shown": 1, "extractors": []},
}


def execute(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> NotebookNode:
    """The notebook with its outputs, run on a study's folder."""
    monkeypatch.setenv("MOT_LAB_STUDY", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOKS.parent)}}
    )
    return client.execute()


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """Everything of one kind that its cells gave."""
    given = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [one["data"][kind] for one in given if kind in one.get("data", {})]


def printed(notebook: NotebookNode) -> str:
    """What its cells printed."""
    given = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(one["text"] for one in given if one.get("name") == "stdout")


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    """The folder of a study with a store and the checkpoints of its two arms."""
    folder = tmp_path / "compared"
    folder.mkdir()
    slopes = {arm: SLOPES[arm] for arm in ("dense", "mot")}
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    write_synthetic_study(uri, folder / "mlartifacts", "compared", slopes, seeds=(0,))
    for run in runs_of(from_dict(StudyConfig, SETTINGS), folder):
        train(run, None)
    (folder / "study.json").write_text(json.dumps({"arms": slopes, "seeds": [0]}))
    return folder


@pytest.mark.parametrize("name", ["compare_arms", "leave_one_out"])
def test_the_two_files_are_one_notebook(name: str) -> None:
    script = jupytext.read(NOTEBOOKS / f"{name}.py")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [[(cell.cell_type, cell.source) for cell in one.cells] for one in (script, notebook)]
    assert cells[0] == cells[1], f"jupytext --to ipynb notebooks/{name}.py"
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_arms_are_compared_down_to_their_layers(
    compared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = execute("compare_arms", compared, monkeypatch)
    # Losses and step matching of two modalities, slopes over three axes, metrics, pictures, and
    # two figures of the layers.
    assert len(outputs(notebook, "image/png")) == 2 + 2 + 3 + 1 + 1 + 2
    tables = outputs(notebook, "text/html")
    assert len(tables) == 5
    assert all(name in tables[-1] for name in ("silhouette", "final norm", "mot"))
    said = printed(notebook)
    assert "compared (transfusion): dense, mot; seeds (0,)" in said


def test_without_checkpoints_the_notebook_says_so_and_draws_the_rest(
    store, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = execute("compare_arms", store.folder, monkeypatch)
    assert "has neither checkpoints nor representation.json" in printed(notebook)
    assert len(outputs(notebook, "image/png")) == 9
    assert len(outputs(notebook, "text/html")) == 4


def test_partitions_stand_beside_the_papers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "partitions"
    folder.mkdir()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    write_synthetic_study(uri, folder / "mlartifacts", "partitions", ISOLATIONS, seeds=(0,))
    notebook = execute("leave_one_out", folder, monkeypatch)
    # The matrices of both losses, the slopes with intervals, losses of three modalities.
    assert len(outputs(notebook, "image/png")) == 2 + 1 + 3
    slopes, losses = outputs(notebook, "text/html")
    assert all(arm in slopes for arm in ("loo_text", "loo_image", "loo_speech", "mot"))
    assert losses.count("<td>speech</td>") == 2 * len(ISOLATIONS)
    said = printed(notebook)
    assert "partitions (chameleon_speech)" in said
    assert "The paper: Section 4.2 says that the run with images isolated" in said
