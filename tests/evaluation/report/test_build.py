"""The report says what the study holds, in every format, and the same every time."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from mlflow import MlflowClient
from synthetic_evaluation import NO_CAPTION

from evaluation.bootstrap import seed_interval
from evaluation.numbers.study import report_numbers
from evaluation.report.build import report_texts
from evaluation.report.content import report_sections
from evaluation.store.read import read_study
from evaluation.store.study_record import StudyRecord

FIGURES = ["loss_text", "loss_image", "step_matching_text", "step_matching_image"]
FIGURES += [
    "slopes",
    "wall_clock",
    "unrouted",
    "expert_load",
    "metrics",
    "generated",
    "sensitivity",
]
TABLES = ["fairness", "router_flops", "arms", "losses", "slopes", "matching"]
TABLES += ["leak", "routers", "unrouted", "load", "causality"]
TABLES += ["metrics", "differences", "extractors", "tokenizers", "evaluators", "captions"]
TABLES += ["training", "environment", "slope_ranges", "sensitivity"]


@pytest.fixture(scope="module")
def report(built) -> dict[str, Any]:
    return json.loads((built / "report.json").read_text())


def texts_of(study: StudyRecord) -> dict[str, str]:
    numbers = report_numbers(study)
    return report_texts("title", numbers, report_sections(numbers, {}))


def row(report: dict[str, Any], table: str, **wanted: Any) -> dict[str, Any]:
    found = [one for one in report[table] if all(one[k] == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_report_json_holds_the_promised_fields(report) -> None:
    assert report["schema"] == 1 and report["study"] == "synthetic"
    assert report["setting"] == "transfusion" and report["baseline"] == "dense"
    assert report["seeds"] == [0, 1] and report["environment"]["torch"] == "2.14.1"
    costs = {"parameters", "active_parameters", "flops_per_step", "seconds_per_step"}
    assert all(costs <= set(arm) for arm in report["arms"].values())
    assert list(report["arms"]) == ["dense", "moe_4x", "mot"]
    fields = {"arm", "modality", "axis", "curve", "slope", "slope_low", "slope_high"}
    assert all(fields | {"end_ratio", "reached"} <= set(one) for one in report["matching"])
    fields = {"arm", "name", "value", "low", "high", "n", "extractor", "ceiling", "floor"}
    assert all(fields <= set(one) for one in report["metrics"])
    keys = {(one["arm"], one["modality"], one["axis"], one["curve"]) for one in report["matching"]}
    assert len(keys) == len(report["matching"]) == 2 * 2 * 3 * 2


def test_slopes_are_those_of_the_power_laws(report) -> None:
    wanted = {"arm": "mot", "modality": "image", "curve": "val"}
    steps = row(report, "matching", axis="steps", **wanted)
    assert steps["slope"] == pytest.approx(0.6, rel=2e-3)
    low, high = seed_interval([0.6 * 0.96, 0.6 * 1.04])
    assert steps["slope_low"] == pytest.approx(low, abs=0.02)
    assert steps["slope_high"] == pytest.approx(high, abs=0.02)
    assert steps["points_low"] == pytest.approx(0.6, rel=2e-3)  # the curves have no noise
    assert steps["points_high"] == pytest.approx(0.6, rel=2e-3)
    assert steps["end_ratio"] == pytest.approx(0.6, rel=2e-3)
    assert steps["reached"] is True
    flops = row(report, "matching", axis="flops", **wanted)
    assert flops["slope"] == steps["slope"]  # as many FLOPs per step
    seconds = row(report, "matching", axis="seconds", **wanted)
    assert seconds["slope"] == pytest.approx(steps["slope"] * 0.55 / 0.5, rel=1e-12)
    assert row(report, "matching", arm="moe_4x", modality="text", axis="steps", curve="train")[
        "slope"
    ] == pytest.approx(0.5, rel=2e-3)


def test_never_reached_is_said(report, store) -> None:
    slow = row(report, "matching", arm="moe_4x", modality="image", axis="steps", curve="val")
    assert slow["slope"] == pytest.approx(1.25, rel=2e-3)
    assert slow["reached"] is False and slow["end_ratio"] is None
    lines = (store.folder / "report.md").read_text().splitlines()
    line = next(x for x in lines if x.startswith("| moe\\_4x † | image | val | steps"))
    assert "never reached" in line and "0 of 2" in line


def test_final_losses(report) -> None:
    val = row(report, "losses", arm="dense", modality="image", curve="val")
    assert val["value"] == pytest.approx(0.1 + 1.5 / 400**0.5, rel=1e-12)
    train = row(report, "losses", arm="dense", modality="image", curve="train")
    tail = [0.1 + 1.5 / step**0.5 for step in range(364, 401, 4)]
    assert train["value"] == pytest.approx(sum(tail) / len(tail), rel=1e-12)


def test_metrics_keep_what_measured_them(report) -> None:
    clip = row(report, "metrics", arm="mot", name="CLIP score")
    assert clip["extractor"] == "scenes-clip" and clip["n"] == 256
    assert (clip["ceiling"], clip["floor"]) == (0.41, 0.05)
    assert "0.91" in clip["note"]  # the extractor's own retrieval accuracy
    cider = row(report, "metrics", arm="moe_4x", name="CIDEr")
    assert cider["value"] is None and cider["note"] == NO_CAPTION


def test_expert_choice_losses_are_marked_everywhere(report, store) -> None:
    assert report["arms"]["moe_4x"]["loss_sees_other_tokens"] is True
    assert any("later ones included" in note for note in report["notes"])
    for name in ("losses", "matching"):
        rows = csv.reader((store.folder / "tables" / f"{name}.csv").open())
        arms = {cells[0] for cells in rows} - {"arm"}
        assert arms <= {"dense", "moe_4x †", "mot"} and "moe_4x †" in arms


def test_one_seed_says_so(study: StudyRecord) -> None:
    first = [run for run in study.runs if run.seed == 0]
    numbers = report_numbers(replace(study, seeds=(0,), runs=tuple(first)))
    assert any("no interval over seeds" in note for note in numbers["notes"])
    assert all(one["slope_low"] is None for one in numbers["matching"])
    assert all(one["points_low"] is not None for one in numbers["matching"])
    assert all(one["interval_over"] in ("samples", None) for one in numbers["metrics"])
    markdown = report_texts("title", numbers, report_sections(numbers, {}))["report.md"]
    assert "there is no interval over seeds" in markdown
    assert "interval over the points of the curves \\[" in markdown


def test_dropped_points_are_noted(study: StudyRecord) -> None:
    run = replace(study.runs[0], dropped={("text", "train"): 3})
    notes = report_numbers(replace(study, runs=(run, *study.runs[1:])))["notes"]
    assert any(note.startswith("dense-seed0: 3 points of train/text/loss") for note in notes)


def test_a_study_without_evaluation_still_has_a_report(study: StudyRecord) -> None:
    bare = [replace(run, metrics=(), samples=()) for run in study.runs]
    texts = texts_of(replace(study, runs=tuple(bare)))
    assert "No metrics were measured" in texts["report.md"]
    assert "No samples were generated" in texts["report.md"]


class Page(HTMLParser):
    """Collects what an HTML page refers to and the tags it uses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.targets += [found[key] or "" for key in ("src", "href") if key in found]
        if found.get("id"):
            self.ids.append(str(found["id"]))

    @property
    def anchors(self) -> set[str]:
        return set(self.ids)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_needs_nothing_beside_it(report, store) -> None:
    html = (store.folder / "report.html").read_text()
    page = Page(html)
    pictures = [target for target in page.targets if target.startswith("data:image/png;base64,")]
    links = [target for target in page.targets if target not in pictures]
    assert len(pictures) == len(FIGURES) + 5  # and the held-out pictures beside their captions
    assert len(links) == 11 and all(link[1:] in page.anchors for link in links)
    assert "url(" not in html and "@import" not in html
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "<script>alert('x')</script> costs $5 & $6 | `code`" in page.text  # as text
    assert {f"figure-{name}" for name in FIGURES} <= page.anchors
    assert len(page.ids) == len(page.anchors)  # none twice


def test_all_files_are_written_and_logged(report, store) -> None:
    files = ["report.json", "report.md", "report.html", *(f"tables/{n}.csv" for n in TABLES)]
    files += [f"figures/{name}{suffix}" for name in FIGURES for suffix in (".png", ".svg")]
    client = MlflowClient(store.uri)
    run_id = read_study(store.uri, "synthetic").run_id
    logged = {
        artifact.path
        for folder in ("report", "report/figures", "report/tables")
        for artifact in client.list_artifacts(run_id, folder)
        if not artifact.is_dir
    }
    assert logged == {f"report/{name}" for name in files}
    assert all((store.folder / name).stat().st_size > 0 for name in files)
