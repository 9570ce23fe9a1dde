"""The notebook runs on a finished study, and its two files are one notebook."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def test_the_two_files_are_one_notebook() -> None:
    script = jupytext.read(NOTEBOOKS / "quickstart.py")
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    cells = [[(cell.cell_type, cell.source) for cell in one.cells] for one in (script, notebook)]
    assert cells[0] == cells[1], "jupytext --to ipynb notebooks/quickstart.py"
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_it_draws_the_figures_of_a_finished_study(store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_STUDY", str(store.folder))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=120, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [one for one in outputs if "image/png" in one.get("data", {})]
    tables = [one for one in outputs if "text/html" in one.get("data", {})]
    assert len(pictures) == 6 and len(tables) == 4
