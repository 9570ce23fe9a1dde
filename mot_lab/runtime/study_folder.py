"""What the folder of a study says of it."""

from pathlib import Path

from mot_lab.runtime.plain_files import laid_out, read_json


def study_name(folder: Path) -> str:
    """Name of the study in a folder: that of its record, or, where there is none, the folder's own.

    The rung of a ladder lies in a folder of the rung's name and has the ladder's before its own.
    """
    record = folder / "study.json"
    if not record.is_file():
        return folder.name
    with laid_out(record):
        return str(read_json(record)["study"])
