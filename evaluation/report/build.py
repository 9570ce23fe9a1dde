"""The report of a finished study, from its tracking store and nothing else.

Writes ``report.json``, ``report.md``, ``report.html``, ``figures/`` (PNG and SVG) and ``tables/``
(CSV), and logs them to the study's MLflow run under ``report/``. Nothing in them says when they
were built: the same store gives the same bytes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from mlflow import MlflowClient

from evaluation.figures.registry import figure_makers
from evaluation.figures.style import save_figure
from evaluation.numbers.study import first_seed_samples, report_numbers
from evaluation.progress import counting
from evaluation.report.blocks import Picture, Section, Sounds, Table
from evaluation.report.content import report_sections
from evaluation.report.html import to_html
from evaluation.report.markdown import to_markdown
from evaluation.report.speech import speech_sections
from evaluation.report.tables import to_csv
from evaluation.store.read import read_study
from evaluation.store.study_record import StudyRecord
from evaluation.wording import Numbers
from mot_lab.runtime.files import atomic_file, lacks_room, not_written
from mot_lab.step_time_ratios import check_step_time_ratios

Makers = Mapping[str, Callable[[], Figure]]


def build_report(
    tracking_uri: str,
    study: str,
    out: Path,
    step_time_ratios: Mapping[str, float] | None = None,
) -> Path:
    """Builds the report of a study and logs it to the study's run.

    Args:
        tracking_uri: the MLflow tracking store that holds the study.
        study: the study's name.
        out: folder to write into; files of an earlier report are replaced.
        step_time_ratios: in place of the study's own, by arm.

    Returns:
        The path of ``report.html``; the rest lies beside it.

    Raises:
        ValueError: no such store or study, or some of its runs are missing or unfinished; or a
            ratio of no arm.
    """
    record = read_study(tracking_uri, study)
    if step_time_ratios:
        check_step_time_ratios(step_time_ratios, list(record.arms), record.baseline)
        record = replace(record, step_time_ratios=step_time_ratios)
    client = MlflowClient(tracking_uri)
    for path in write_report(record, out):
        folder = Path("report") / path.relative_to(out).parent
        try:
            client.log_artifact(record.run_id, str(path), folder.as_posix())
        except Exception as error:  # MLflow's, sqlite's or of the copy
            if lacks_room(error):
                raise not_written(f"{path.name} in {tracking_uri}", error) from error
            raise
    return out / "report.html"


def write_report(study: StudyRecord, out: Path) -> list[Path]:
    """Writes the report into ``out`` and returns the files written."""
    numbers = report_numbers(study)
    sections = [*report_sections(numbers, _real_pictures(study)), *speech_sections(study)]
    return write_files(_title(study), numbers, sections, figure_makers(study, numbers), out)


def write_files(
    title: str, numbers: Numbers, sections: list[Section], makers: Makers, out: Path
) -> list[Path]:
    """Writes any report into ``out``: its texts and tables, and those figures that it shows.

    Args:
        title: of the report.
        numbers: the content of ``report.json``.
        sections: of the report.
        makers: what draws each figure, by its name.
        out: folder to write into.

    Returns:
        The files written.
    """
    pngs, written = {}, []
    names = _drawn(sections)
    with counting("drawing figures", len(names)) as drawn:
        for name in names:
            png = out / "figures" / f"{name}.png"
            figure = makers[name]()
            written += [save_figure(figure, png), save_figure(figure, png.with_suffix(".svg"))]
            pngs[name] = png.read_bytes()
            drawn(1)
    texts = report_texts(title, numbers, sections)
    texts["report.html"] = to_html(title, sections, pngs)
    written += _write_sounds(sections, out)
    return written + [_write(out / name, text.encode()) for name, text in texts.items()]


def report_texts(title: str, numbers: Numbers, sections: list[Section]) -> dict[str, str]:
    """``report.json``, ``report.md`` and the tables: file name -> content."""
    blocks = [block for section in sections for block in section.blocks]
    tables = [block for block in blocks if isinstance(block, Table)]
    return {
        "report.json": json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": to_markdown(title, sections),
        **{f"tables/{table.name}.csv": to_csv(table) for table in tables},
    }


def _title(study: StudyRecord) -> str:
    return f"{study.name}: {', '.join(study.arms)} compared"


def _real_pictures(study: StudyRecord) -> dict[str, bytes | None]:
    """The real picture of every sample shown, as PNG, by its prompt."""
    return {
        prompt: next((sample.reference for sample in arms.values() if sample.reference), None)
        for prompt, arms in first_seed_samples(study).items()
    }


def _drawn(sections: list[Section]) -> list[str]:
    blocks = [block for section in sections for block in section.blocks]
    return [block.name for block in blocks if isinstance(block, Picture)]


def _write_sounds(sections: list[Section], out: Path) -> list[Path]:
    """Every sound of a report, each in its file."""
    blocks = [block for section in sections for block in section.blocks]
    sounds = {
        block.file(i, j): cell
        for block in blocks
        if isinstance(block, Sounds)
        for i, row in enumerate(block.rows)
        for j, cell in enumerate(row)
        if isinstance(cell, bytes)
    }
    return [_write(out / name, wav) for name, wav in sounds.items()]


def _write(path: Path, content: bytes) -> Path:
    with atomic_file(path) as file:
        file.write(content)
    return path
