"""Whole, harmless files that are not what is expected there: refused by name, or made do with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reliability.hostile import other_layouts
from reliability.processes import curve, tiny_runs, train_one
from safetensors.torch import save

from evaluation.representation.checkpoints import find_checkpoints
from evaluation.representation.record import read_representation
from mot_lab.causal_router import FORMAT, load_router
from mot_lab.runtime.study_folder import study_name
from mot_lab.tokens.image import ImageTokenizerConfig
from mot_lab.tokens.speech import ABOUT, SpeechTokenizer, SpeechTokenizerConfig
from mot_lab.tokens.speech_features import LogMelFeatures
from mot_lab.trained import load_without_router

FEW: dict[str, Any] = {"steps": 6, "val_every": 3, "log_every": 1, "checkpoint_every": 2}


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
