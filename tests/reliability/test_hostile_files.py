"""Files of strangers are read as data: nothing in them is carried out, and an error is one line."""

import json
import pickle
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml
from diffusers.models import AutoencoderKL
from reliability.amounts import only_whole
from reliability.hostile import (
    Bomb,
    archives,
    deep_json,
    hostile_yaml,
    other_layouts,
    pickle_bombs,
    refusal,
)
from reliability.processes import (
    SETTINGS,
    curve,
    kill_group,
    start,
    study_command,
    tiny_runs,
    train_one,
    wait_for,
)
from safetensors.torch import save
from tokens.test_speech_hubert import save_hubert
from transformers import ChameleonVQVAE
from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig

from evaluation.metrics.clip_score import load_open_clip
from evaluation.metrics.extractors import inception
from evaluation.report.blocks import Alert, Code, Links, Points, Section, Sounds, Table, Text
from evaluation.report.html import to_html
from evaluation.report.markdown import to_markdown
from evaluation.representation.checkpoints import find_checkpoints
from evaluation.representation.record import read_representation
from evaluation.store.read import _read_sample
from mot_lab.causal_router import FORMAT, load_router
from mot_lab.runtime.checkpoint import AtomicCheckpointIO
from mot_lab.runtime.study_folder import study_name
from mot_lab.tokens.image import ImageTokenizerConfig, load_image_tokenizer
from mot_lab.tokens.speech import ABOUT, SpeechTokenizer, SpeechTokenizerConfig
from mot_lab.tokens.speech_features import LogMelFeatures
from mot_lab.tokens.speech_hubert import HubertFeatures
from mot_lab.trained import load_without_router

FEW: dict[str, Any] = {"steps": 6, "val_every": 3, "log_every": 1, "checkpoint_every": 2}
SCRIPT = "<script>alert(1)</script> | `x`\n# head <img src=x onerror=alert(1)> \"'"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """The file that a bomb creates where it goes off."""
    return tmp_path / "gone-off"


def test_the_bombs_are_bombs(tmp_path: Path, trace: Path) -> None:
    files = pickle_bombs(tmp_path, trace)
    with files[0].open("rb") as file:
        pickle.load(file)
    assert trace.exists()
    for path in files[1:]:
        trace.unlink()
        torch.load(path, weights_only=False)
        assert trace.exists()
    trace.unlink()
    yaml.unsafe_load((hostile_yaml(tmp_path, trace)[0]).read_text())
    assert trace.exists()


@pytest.mark.parametrize(
    "command", [["generate", "--text", "a"], ["evaluate"], ["fit-router"], ["represent"]]
)
def test_checkpoints(
    command: list[str],
    tmp_path: Path,
    trace: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    files = [*pickle_bombs(tmp_path, trace), *archives(tmp_path, trace), *deep_json(tmp_path)]
    record_property("tried", len(files))
    said = [refusal(capsys, command[0], path, *command[1:]) for path in files]
    handled = sum(path.name in line for path, line in zip(files, said, strict=True))
    record_property("handled", handled * (not trace.exists()))
    assert handled == len(files) and not trace.exists()


def test_checkpoints_elsewhere_are_not_fetched(tmp_path: Path, trace: Path) -> None:
    (bomb, *_) = pickle_bombs(tmp_path, trace)
    for place in (f"file://{bomb}", "https://localhost:9/x.ckpt", "s3://bucket/x.ckpt"):
        with pytest.raises(ValueError, match="checkpoints are local files"):
            AtomicCheckpointIO().load_checkpoint(place)
    with pytest.raises(ValueError, match="weights_only=True"):
        AtomicCheckpointIO().load_checkpoint(bomb, weights_only=False)
    assert not trace.exists()


@pytest.mark.parametrize("command", ["study", "arms", "count", "data"])
def test_configurations(
    command: str,
    tmp_path: Path,
    trace: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    files = [*hostile_yaml(tmp_path, trace), *deep_json(tmp_path), *archives(tmp_path, trace)]
    files.append(pickle_bombs(tmp_path, trace)[0])
    arguments = ["prepare"] if command == "data" else []
    record_property("tried", len(files))
    said = [refusal(capsys, command, *arguments, path) for path in files]
    handled = sum(path.name in line for path, line in zip(files, said, strict=True))
    record_property("handled", handled * (not trace.exists()))
    assert handled == len(files) and not trace.exists()


def test_json(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    files = deep_json(tmp_path)
    (tmp_path / "captions.json").write_text('{"a.png": "a"}')
    calls: list[list[object]] = []
    for path in files:
        lines = path.with_suffix(".jsonl")
        lines.write_text(path.read_text())
        calls += [
            ["evaluate", "--generated", path, "--captions", tmp_path / "captions.json"],
            ["match", "--baseline", lines, "--arm", lines, "--metric", "loss"],
        ]
        (tmp_path / path.stem).mkdir()
        (tmp_path / path.stem / "study.json").write_text(path.read_text())
        calls.append(["represent", tmp_path / path.stem])
    record_property("tried", len(calls))
    said = [refusal(capsys, *call) for call in calls]
    record_property("handled", len(said))
    assert all(any(path.stem in line for path in files) for line in said)


def bombs_in_models(folder: Path, trace: Path) -> dict[str, Callable[[], object]]:
    """Loaders of what others trained, each on weights that are a bomb."""
    vae, vq, hubert = folder / "vae", folder / "vq", folder / "hubert"
    AutoencoderKL(block_out_channels=(32,), norm_num_groups=32).save_config(vae)
    ChameleonVQVAE(
        ChameleonVQVAEConfig(base_channels=32, channel_multiplier=[1, 1], num_embeddings=8)
    ).save_pretrained(vq)
    save_hubert(hubert, (5, 8, 8), True)
    for place in (vq, hubert):
        (place / "model.safetensors").unlink()
        torch.save({"weight": Bomb(trace)}, place / "pytorch_model.bin")
    torch.save({"weight": Bomb(trace)}, vae / "diffusion_pytorch_model.bin")
    units = folder / "units"
    units.mkdir()
    about = {
        "features": {"features": "log_mel"},
        "features_fingerprint": LogMelFeatures().fingerprint,
    }
    (units / ABOUT).write_text(json.dumps(about))
    objects = np.array([Bomb(trace)], dtype=object)
    np.savez(units / "units.npz", centroids=objects, frames=objects, runs=objects)
    loose = folder / "loose.pt"
    torch.save({"state_dict": {"weight": Bomb(trace)}}, loose)
    plain = folder / "plain.pt"
    plain.write_bytes(pickle.dumps(Bomb(trace)))

    def pictures(kind: str, path: Path) -> Callable[[], object]:
        config = ImageTokenizerConfig(kind=kind, path=str(path))  # type: ignore[arg-type]
        return lambda: load_image_tokenizer(config, 16, lambda start, count: None, "key")  # type: ignore[arg-type, return-value]

    return {
        "autoencoder": pictures("vae", vae),
        "vq": pictures("vq", vq),
        "hubert": lambda: HubertFeatures(str(hubert), 1),
        "units": lambda: SpeechTokenizer.load(units),
        "inception": lambda: inception(loose),
        "inception, plain": lambda: inception(plain),
        "open_clip": lambda: load_open_clip("ViT-B-32", str(loose)),
        "open_clip, plain": lambda: load_open_clip("ViT-B-32", str(plain)),
        "router": lambda: load_router(loose),
    }


def test_models_of_others(
    tmp_path: Path,
    trace: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
    loaders = bombs_in_models(tmp_path, trace)
    record_property("tried", len(loaders))
    said, went_off = {}, []
    for name, load in loaders.items():
        with pytest.raises(ValueError) as refused:
            load()
        said[name] = str(refused.value)
        if trace.exists():
            went_off.append(name)
            trace.unlink()
    record_property("handled", len(said) - len(went_off))
    assert went_off == []
    assert all(str(tmp_path) in message for message in said.values()), said


def _checkpoint(path: Path, content: Any) -> Callable[[], object]:
    torch.save(content, path)
    return lambda: load_without_router(path)


def _router(path: Path, content: Any) -> Callable[[], object]:
    tensors = {f"0/text/{part}": torch.zeros(2, 2) for part in ("into_DH", "out_HE")}
    path.write_bytes(save(tensors, {"format": FORMAT, "about": json.dumps(content)}))
    return lambda: load_router(path)


def _units(path: Path, content: Any) -> Callable[[], object]:
    path.mkdir(exist_ok=True)
    (path / ABOUT).write_text(json.dumps(content))
    shape = (2, 8)
    np.savez(path / "units.npz", centroids=np.zeros(shape), frames=np.zeros(shape), runs=[1, 1])
    return lambda: [SpeechTokenizerConfig(path=str(path)).vocabulary(), SpeechTokenizer.load(path)]


def _model(kind: str) -> Callable[[Path, Any], Callable[[], object]]:
    def write(path: Path, content: Any) -> Callable[[], object]:
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text(json.dumps(content))
        config = ImageTokenizerConfig(kind=kind, path=str(path))  # type: ignore[arg-type]
        return lambda: config.codes(16) if kind == "vq" else config.latent_shape(16)

    return write


def _study(path: Path, content: Any) -> Callable[[], object]:
    path.mkdir(exist_ok=True)
    (path / "study.json").write_text(json.dumps(content))
    return lambda: [study_name(path), find_checkpoints([path])]


def _states(path: Path, content: Any) -> Callable[[], object]:
    path.mkdir(exist_ok=True)
    (path / "representation.json").write_text(json.dumps(content))
    return lambda: read_representation(path)


OF_OTHERS: dict[str, tuple[Callable[[Path, Any], Callable[[], object]], Any]] = {
    "checkpoint": (
        _checkpoint,
        {
            "state_dict": {},
            "loops": {},
            "callbacks": {"ExponentialMovingAverage": {"averages": {}}},
            "model_settings": {"config": {"backbone": {"width": 8, "heads": 2}}, "arm": "mot"},
            "MultimodalDataModule": {"config": {"image": {"kind": "pixels"}, "patch": 4}},
            "global_step": 1,
        },
    ),
    "router": (
        _router,
        {
            "config": {"steps": 3, "threshold": 0.5},
            "quality": {"accuracy": 1.0, "precision": 1.0, "recall": 1.0},
            "weights": "0",
            "step": 1,
        },
    ),
    "units": (
        _units,
        {
            "units": 2,
            "features": {"features": "log_mel"},
            "features_fingerprint": LogMelFeatures().fingerprint,
        },
    ),
    "vq": (
        _model("vq"),
        {
            "_class_name": "VQModel",
            "in_channels": 3,
            "block_out_channels": [32],
            "num_vq_embeddings": 8,
        },
    ),
    "vae": (
        _model("vae"),
        {
            "_class_name": "AutoencoderKL",
            "in_channels": 3,
            "block_out_channels": [32],
            "latent_channels": 4,
        },
    ),
    "study": (_study, {"study": "a", "seeds": [0], "arms": {"dense": {}}}),
    "states": (
        _states,
        {
            "schema": 1,
            "split": "val",
            "seed": 0,
            "noised": False,
            "modalities": ["text"],
            "modality": [0],
            "documents": 1,
            "arms": [],
        },
    ),
}


@pytest.mark.parametrize("kind", OF_OTHERS)
def test_plain_data_of_another_layout(
    kind: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Whole and harmless, and yet not what is expected there: refused by name, or made do with."""
    write, content = OF_OTHERS[kind]
    path = tmp_path / "given"
    wrong = {}
    layouts = list(other_layouts(content))
    for layout in layouts:
        try:
            write(path, layout)()
        except ValueError as error:
            if str(path) not in str(error):
                wrong[str(layout)] = str(error)
        except Exception as error:
            wrong[str(layout)] = repr(error)
    record_property("tried", len(layouts))
    record_property("handled", len(layouts) - len(wrong))
    assert wrong == {}


def test_a_checkpoint_that_training_cannot_go_on_from(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Of each part of it: gone, and of another type. It stays, and no step is trained."""
    train_one(tmp_path, training=FEW)
    run = tiny_runs(tmp_path, **FEW)[0]
    whole, trained = torch.load(run.checkpoint, weights_only=True), curve(run.folder.path)
    run.folder.record_path.unlink()
    keys = ["state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "global_step"]
    layouts = [{k: v for k, v in whole.items() if k != key} for key in keys]
    layouts += [{**whole, key: [{"x": "y"}]} for key in keys[:-1]]  # nothing reads the last
    layouts.append({**whole, "state_dict": {k: v[:1] for k, v in whole["state_dict"].items()}})
    wrong = {}
    for number, layout in enumerate(layouts):
        torch.save(layout, run.checkpoint)
        before = run.checkpoint.read_bytes()
        try:
            train_one(tmp_path, training=FEW)
        except ValueError as error:
            if str(run.checkpoint) in str(error) and run.checkpoint.read_bytes() == before:
                continue
            wrong[number] = str(error)
        except Exception as error:
            wrong[number] = repr(error)
        else:
            wrong[number] = "trained"
    record_property("tried", len(layouts))
    record_property("handled", len(layouts) - len(wrong))
    assert wrong == {}
    assert curve(run.folder.path) == trained


def test_a_store_names_only_its_own_files(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png"):
        with pytest.raises(ValueError, match="is no artifact of its run"):
            _read_sample({"prompt": "a", "generated": name}, folder)
    (folder / "own.png").write_bytes(b"own")
    assert _read_sample({"prompt": "a", "generated": "own.png"}, folder).generated == b"own"


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
