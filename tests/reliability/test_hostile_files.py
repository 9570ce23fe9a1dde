"""Files of strangers are read as data: nothing in them is carried out, and an error is one line."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers.models import AutoencoderKL
from reliability.hostile import Bomb, archives, deep_json, hostile_yaml, pickle_bombs, refusal
from tokens.test_speech_hubert import save_hubert
from transformers import ChameleonVQVAE
from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig

from evaluation.metrics.clip_score import load_open_clip
from evaluation.metrics.extractors import inception
from evaluation.store.read import _read_sample
from mot_lab.causal_router import load_router
from mot_lab.runtime.checkpoint import AtomicCheckpointIO
from mot_lab.tokens.image import ImageTokenizerConfig, load_image_tokenizer
from mot_lab.tokens.speech import ABOUT, SpeechTokenizer
from mot_lab.tokens.speech_features import LogMelFeatures
from mot_lab.tokens.speech_hubert import HubertFeatures


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
