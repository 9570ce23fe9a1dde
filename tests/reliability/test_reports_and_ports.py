"""What others can reach of a study: a page with their text in it, and nothing that listens."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import psutil
import yaml
from reliability.amounts import only_whole
from reliability.processes import SETTINGS, kill_group, start, study_command, wait_for

from evaluation.report.blocks import Alert, Code, Links, Points, Section, Sounds, Table, Text
from evaluation.report.html import to_html
from evaluation.report.markdown import to_markdown

SCRIPT = "<script>alert(1)</script> | `x`\n# head <img src=x onerror=alert(1)> \"'"


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.shown = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_reports_show_text_as_text() -> None:
    sections = [
        Section(
            "a",
            SCRIPT,
            [
                Text(SCRIPT),
                Alert(SCRIPT),
                Points([SCRIPT]),
                Links([(SCRIPT, "a.html")]),
                Code(SCRIPT, SCRIPT + "\n```\n# out"),
                Table("t", SCRIPT, [SCRIPT, "b"], [[SCRIPT, 1.0], [SCRIPT, (1.0, 2.0)]]),
                Sounds("s", SCRIPT, [SCRIPT, "b"], [[SCRIPT, b"RIFF"], [SCRIPT, None]]),
            ],
        )
    ]
    page = Page(to_html(SCRIPT, sections, {}))
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, names in page.tags for name in names)
    assert page.shown.count(SCRIPT) == 18
    assert "<audio" in to_html("a", sections, {}) and "data:audio/wav;base64," in to_html(
        "a", sections, {}
    )
    text = to_markdown(SCRIPT, sections)
    outside = text[: text.index("````")] + text[text.rindex("````") :]
    assert "<script" not in outside and "<img" not in outside
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert len(rows) == 8
    for row in rows:
        assert row.replace("\\|", "").count("|") == 3


@only_whole
def test_a_running_study_listens_nowhere(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    training = {**SETTINGS["training"], "num_workers": 1, "steps": 20_000}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**SETTINGS, "training": training}))
    process = start(study_command(tmp_path), MOT_LAB_CACHE=str(tmp_path / "cache"))
    looks, found = 200, []
    try:
        wait_for(lambda: any(tmp_path.glob("small/*/metrics.jsonl")), 300)
        study = psutil.Process(process.pid)
        seen = 0
        for _ in range(looks):
            for each in [study, *study.children(recursive=True)]:
                try:
                    listening = [
                        one for one in each.net_connections("inet") if one.status == "LISTEN"
                    ]
                except psutil.NoSuchProcess:
                    continue
                seen += 1
                found += listening
        assert process.poll() is None and seen > looks
    finally:
        kill_group(process)
        process.communicate()
    record_property("tried", looks)
    record_property("handled", looks - len(found))
    assert found == []
