"""An sqlite store that was moved or copied with its study's folder goes on working.

MLflow writes the absolute path of every artifact folder into its database (measured with 3.17: a
relative location is made absolute when the experiment is created), so a moved store would read
nothing, and a copy would write into the original.
"""

import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

ARTIFACTS = "mlartifacts"


def artifacts_beside(database: Path) -> str:
    """Where a store keeps its artifacts: beside its file, as a ``file://`` URI."""
    return (database.absolute().parent / ARTIFACTS).as_uri()


def follow_move(database: Path) -> None:
    """Point the experiments whose artifacts lie beside ``database`` there, in one transaction.

    Only experiments that mot-lab made (their location is a folder ``mlartifacts``), and only when
    the artifacts of one of their runs are there. Nothing is written when all is in place.
    """
    if not database.is_file():
        return
    here = artifacts_beside(database)
    connection = sqlite3.connect(database, timeout=30)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
            return
        moved = [
            (experiment, location)
            for experiment, location in connection.execute(
                "SELECT experiment_id, artifact_location FROM experiments"
            )
            if location != here and Path(unquote(urlparse(location or "").path)).name == ARTIFACTS
        ]
        for experiment, location in moved:
            runs = connection.execute(
                "SELECT run_uuid FROM runs WHERE experiment_id = ?", [experiment]
            )
            beside = database.absolute().parent / ARTIFACTS
            if any((beside / run).is_dir() for (run,) in runs.fetchall()):
                _rebase(connection, experiment, location, here)
        connection.commit()
    finally:
        connection.close()


def _rebase(connection: sqlite3.Connection, experiment: int, old: str, new: str) -> None:
    connection.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
        "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
        [new, len(old) + 1, experiment, len(old) + 1, old + "/"],
    )
    connection.execute(
        "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", [new, experiment]
    )
