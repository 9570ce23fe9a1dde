"""A wrong configuration is one line, before anything is prepared; one that is right is built."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import huggingface_hub.constants
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from reliability.amounts import WHOLE, amount
from reliability.mutated import FILES, LADDERS, STUDIES, Mutant, changed, names, scribbled, shows

from mot_lab.cli import main
from mot_lab.config import StudyConfig, load_study, read_settings
from mot_lab.counting import arm_cost_and_parts, nominal_workload
from mot_lab.ladder import read_ladder
from mot_lab.optim import learning_rate
from mot_lab.tokens.autoencoder import build_autoencoder
from mot_lab.tokens.vq_model import build_vq

Property = Callable[[str, object], None]
ALLOWED = re.compile(
    r"\b(must|there (are|is)|none of|needs?|at (least|most)|more than|required|known|no room|say"
    r"|give|empty|only|like|of the form|change one|no YAML|holds (no|\w+, not)|second time"
    r"|neither|lacks|has no speech|twice|again|unknown|no readable|no text|no saved)\b"
)


class Prepared(Exception):
    """Data would be prepared now: everything before was right."""


@pytest.fixture(autouse=True)
def nothing_is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Instead of preparing, a command ends with `Prepared`; the cache stays empty."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("MOT_LAB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with mock.patch("mot_lab.data.scene_data.SceneSource", side_effect=Prepared):
        yield
    assert not cache.exists() or not any(cache.iterdir())


def said(text: str, overrides: tuple[str, ...], path: Path) -> str | None:
    """What the command line says of a configuration; None where it would begin to prepare."""
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            main(["data", "prepare", str(path), "--", *overrides])
    except Prepared:
        return None
    except SystemExit as ended:
        assert ended.code == 2
        (line,) = errors.getvalue().splitlines()
        assert line.startswith("mot-lab: ") and len(line) < 2000 and line.isprintable()
        return line
    raise AssertionError("nothing was prepared, and nothing said")


def require_clear(mutant: Mutant, line: str) -> None:
    """It says what is allowed and, where one thing was changed, names the key and the value."""
    assert ALLOWED.search(line), line
    if len(mutant.paths) == 1 and "override" not in line:  # which repeats both
        assert names(line, mutant.name, mutant.paths[0]), (line, mutant.paths)
        assert shows(line, mutant.values[0]), (line, mutant.values)


def read(path: Path, overrides: tuple[str, ...]) -> StudyConfig:
    """The study of a file that was accepted, or that of a ladder's last rung."""
    values = read_settings(path, overrides)
    if "ladder" in values:
        return read_ladder(values, str(path)).rungs[-1].config
    return load_study(path, overrides)


def require_buildable(config: StudyConfig, place: int) -> None:
    """What was accepted can be built on the meta device: an arm, its rates, its tokenizer."""
    arm = config.parsed_arms[place % len(config.parsed_arms)]
    backbone = replace(arm.model.backbone, layers=min(arm.model.backbone.layers, 2))
    shallow = replace(arm, model=replace(arm.model, backbone=backbone))
    cost, _ = arm_cost_and_parts(shallow, config.data.interface(), nominal_workload(config.data))
    assert 0 < cost.flops_per_step < float("inf")
    steps, optimizer = arm.training.steps, arm.model.optimizer
    for step in (0, 1, steps // 2, steps - 1):
        assert 0 <= learning_rate(optimizer, step, steps) <= optimizer.lr * (1 + 1e-9)
    image, canvas = config.data.image, config.data.scenes.canvas
    with torch.device("meta"):
        if image.kind == "vq" and image.path is None:
            build_vq(image.vq, canvas)
        elif image.kind == "vae" and image.path is None:
            build_autoencoder(image.fit, canvas)


@pytest.mark.parametrize(
    "mutants, quick, whole",
    [
        pytest.param(changed(STUDIES[:6]), 110, 3000, id="laptop"),
        pytest.param(changed(STUDIES[6:]), 110, 3000, id="paper"),
        pytest.param(changed(LADDERS), 10, 400, id="ladders"),
        pytest.param(scribbled(), 50, 4000, id="text"),
    ],
)
def test_a_mutated_configuration_is_one_line_or_right(
    mutants: st.SearchStrategy[Mutant],
    quick: int,
    whole: int,
    tmp_path: Path,
    record_property: Property,
) -> None:
    """Types, ranges, missing and misspelt keys, contradictions, in the file or by overrides."""
    path = tmp_path / "study.yaml"
    counts = {"tried": 0, "refused": 0, "right": 0}

    @settings(
        max_examples=amount(quick, whole),
        derandomize=not WHOLE,  # the same few in every run of make test, others in every whole one
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutants)
    def check(mutant: Mutant) -> None:
        counts["tried"] += 1
        line = said(mutant.text, mutant.overrides, path)
        if line is not None:
            require_clear(mutant, line)
            counts["refused"] += 1
            return
        if counts["right"] % amount(4, 8) == 0:
            require_buildable(read(path, mutant.overrides), counts["right"])
        counts["right"] += 1

    try:
        check()
    finally:
        record_property("tried", counts["tried"])
        record_property("handled", counts["refused"] + counts["right"])
    assert counts["refused"] > counts["tried"] / 4 and counts["right"] > counts["tried"] / 20


BASE = "name: a\narms: [dense, mot]\n"
LONG = "0x" + "f" * 6000
# Text added to a study, or overrides of it -> what the line must name. Each was a traceback,
# a line without its key or value, or accepted.
FOUND: list[tuple[str, tuple[str, ...], list[str]]] = [
    ("training: {steps: 50, steps: 60}", (), ["line 3", "'steps'", "second time"]),
    ("data: {<<: {rows: 4, rows: 8}}", (), ["line 3", "'rows'", "second time"]),
    ("", (f"training.steps={LONG}",), ["training.steps", "more than 4,300 digits", "at most"]),
    ("", ("training.steps=" + "9" * 6000,), ["training.steps", "is no int"]),
    ("seeds: !!timestamp x", (), ["line 3", "'x' is no timestamp"]),
    ("seeds: !!bool x", (), ["line 3", "'x' is no bool"]),
    ("seeds: !!float x", (), ["line 3", "'x' is no float"]),
    ("seeds: 2026-13-45", (), ["line 3", "'2026-13-45' is no timestamp"]),
    ("training: {spike_sigmas: .nan}", (), ["training.spike_sigmas nan", "at least 0"]),
    ("", ("arms=[dense, {a: {1: x, b: y}}]",), ["arms: arm 'a'", "'b'", "1", "attention"]),
    ("", (f"arms=[dense, moe_{'9' * 5000}x]",), ["arms: unknown arm 'moe_99", "known for"]),
    ("", ("arms=[dense, []]",), ["arms: [] is no partition", "[[text], [image]]"]),
    ('"\\e[31mred": 1', (), ["unknown key \\x1b[31mred: 1", "there are"]),
    ("", ("data..rows=1",), ["override 'data..rows=1'", "key.sub=value"]),
    ("", ("=1",), ["override '=1'", "key.sub=value"]),
    ("data: {text: {vocab_size: 9}}", (), ["data.text.vocab_size 9", "at least 261"]),
    ("data: {text: {path: nowhere}}", (), ["data.text.path", "'nowhere'", "tokenizer.json"]),
    ("data: {scenes: {canvas: 36}}", (), ["data.image", "downsample 8", "canvas of 36"]),
    ("data: {scenes: {canvas: 33}}", (), ["data.scenes.canvas=33", "grid=2"]),
    ("data: {scenes: {canvas: 4096, grid: 4096}}", (), ["data.scenes.grid 4096", "at most 64"]),
    ("data: {image: {kind: vq, path: nowhere}}", (), ["data.image.path 'nowhere'", "folder"]),
    (
        "data: {row_length: 1048576, rows: 1024, val_rows: 1024}",
        (),
        ["data.rows 1024", "row_length 1048576", "at most"],
    ),
    (
        "data: {image: {kind: vq}, speech: {voices: [xx]}}\nsetting: chameleon_speech",
        (),
        ["data.speech.voices: ", "'xx'", "like en-us"],
    ),
    (
        "data: {image: {kind: vq}, speech: {source: nowhere}}\nsetting: chameleon_speech",
        (),
        ["data.speech.source 'nowhere'", "manifest"],
    ),
    ("evaluation: {extractors: ['inception:/no']}", (), ["evaluation.extractors", "'/no'"]),
    (
        "evaluation: {extractors: [ViT-B-32/opnai]}",
        (),
        ["evaluation.extractors", "opnai", "openai"],
    ),
    ("evaluation: {extractors: ['local-dir:/no']}", (), ["evaluation.extractors", "/no", "folder"]),
    (
        "setting: chameleon\ndata: {image: {kind: vq}, scenes: {canvas: 128}}",
        (),
        ["data.row_length 128 must be at least", "scenes.canvas 128"],
    ),
    ("paper: ['figure_12/1.4B ']", (), ["paper: 'figure_12/1.4B '", "there are 163M"]),
    ("step_time_ratios: {mot: 1.0e+300}", (), ["step_time_ratios.mot", "1e+300", "at most"]),
    ("", (f"seeds={list(range(1001))}",), ["seeds", "[0, 1, 2", "at most 1000"]),
    ("", ('arms=!!binary ""',), ["arms: b''", "must be"]),
    ("", ("arms=[dense, !!binary AA==]",), ["arms: b'\\x00'", "must be"]),
    ("", ("arms=[{a: {feed_forward: !!set {mot}}}]",), ["arms: {'mot'}", "must be"]),
    ("", ("data.patch=3",), ["data.patch 3 must divide", "4 x 4", "image"]),
]


@pytest.mark.parametrize("added, overrides, named", FOUND)
def test_what_was_found(
    added: str, overrides: tuple[str, ...], named: list[str], tmp_path: Path
) -> None:
    line = said(f"{BASE}{added}\n", overrides, tmp_path / "study.yaml")
    assert line is not None
    for each in named:
        assert each in line


def test_more_seeds_than_anybody_has_are_not_counted_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", str(FILES["openmoji/transfusion"]), "--seeds", "1000000000000"])
    assert ended.value.code == 2
    assert "--seeds 1000000000000 must be at least 1 and at most 1000" in capsys.readouterr().err


def test_an_override_changes_no_other_alias_of_its_mapping(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        f"{BASE}data: {{image: {{fit: &fit {{width: 32}}, vq: *fit}}}}\n", encoding="utf-8"
    )
    image = load_study(path, ["data.image.vq.width=96"]).data.image
    assert (image.fit.width, image.vq.width) == (32, 96)


@pytest.mark.parametrize("name", FILES)
def test_what_is_shipped_is_right(name: str, tmp_path: Path) -> None:
    assert said(FILES[name].read_text(), (), tmp_path / "study.yaml") is None


COMMANDS = [
    (["study"], "training.steps=.nan", "training.steps: nan must be int"),
    (["study"], "model.backbone.widht=64", "unknown key model.backbone.widht: 64; there are width"),
    (["count"], "data.rows=-3", "data.rows -3 must be at least 1"),
    (["data", "prepare"], "model.optimizer.lr=1e9", "model.optimizer.lr 1000000000.0 must be"),
    (["profile"], "data.image.kind=[vae]", "data.image.kind: ['vae'] must be one of vae"),
]


@pytest.mark.parametrize("command, override, expected", COMMANDS if WHOLE else COMMANDS[1:2])
def test_the_program_itself(
    command: list[str], override: str, expected: str, tmp_path: Path
) -> None:
    """One line, exit code 2, and nothing in the folder it works in."""
    program = str(Path(sys.executable).with_name("mot-lab"))
    ended = subprocess.run(
        [program, *command, str(FILES["openmoji/transfusion"]), override],
        cwd=tmp_path,
        env={**os.environ, "MOT_LAB_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("mot-lab: ") and expected in line
    assert ended.stdout == "" and list(tmp_path.iterdir()) == []
