"""open_clip models in every format that they are kept in: features of open_clip's own forward."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from PIL import Image
from safetensors.torch import save_file

from evaluation.metrics.clip_score import load_open_clip

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
NAME = "tiny-formats"
CAPTIONS = ["a fish", "a red heart on yellow"]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
OWN_COLOURS = {"image_mean": (0.4, 0.5, 0.6), "image_std": (0.2, 0.25, 0.3)}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    file = tmp_path_factory.mktemp("configs") / f"{NAME}.json"
    file.write_text(json.dumps(TINY))
    open_clip.add_model_config(file)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return open_clip.create_model_and_transforms(NAME, **OWN_COLOURS)[0].eval()


def save(network: torch.nn.Module, kind: str, folder: Path) -> tuple[str, str | None]:
    """Write a model; gives the name and the weights that it is loaded by."""
    weights = network.state_dict()
    if kind == "weights":
        torch.save(weights, folder / "clip.pt")
    elif kind == "training":  # of open_clip's own training loop on several GPUs
        whole = {f"module.{name}": weight for name, weight in weights.items()}
        torch.save({"epoch": 3, "name": "x", "state_dict": whole, "scaler": {}}, folder / "clip.pt")
    elif kind == "safetensors":
        save_file(weights, folder / "clip.safetensors")
    else:
        save_config_for_hf(network, folder / "open_clip_config.json", TINY)
        if kind == "folder":
            save_file(weights, folder / "open_clip_model.safetensors")
        else:
            torch.save(weights, folder / "open_clip_pytorch_model.bin")
        return f"local-dir:{folder}", None
    return NAME, str(next(folder.iterdir()))


@pytest.mark.parametrize(
    "kind", ["weights", "training", "safetensors", "folder", "folder, pickled"]
)
def test_features_are_open_clips_own(network: torch.nn.Module, kind: str, tmp_path: Path) -> None:
    clip = load_open_clip(*save(network, kind, tmp_path))
    # A folder says which colours it was trained on; a name has those of OpenAI's.
    mean, std = OWN_COLOURS.values() if "folder" in kind else (None, None)
    prepared = open_clip.image_transform(32, is_train=False, mean=mean, std=std)
    pixels = torch.stack([prepared(Image.fromarray(image)) for image in IMAGES])
    with torch.inference_mode():
        pictures_NF = network.encode_image(pixels)
        captions_NF = network.encode_text(open_clip.tokenize(CAPTIONS, context_length=12))
    torch.testing.assert_close(clip.encode_images(IMAGES), pictures_NF, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(clip.encode_texts(CAPTIONS), captions_NF, rtol=1e-5, atol=1e-6)
    assert pictures_NF.std() > 0.01 and not torch.allclose(pictures_NF[0], pictures_NF[1])


def test_a_model_without_its_weights_is_refused(network: torch.nn.Module, tmp_path: Path) -> None:
    """open_clip itself would go on with random ones."""
    save_config_for_hf(network, tmp_path / "open_clip_config.json", TINY)
    with pytest.raises(ValueError, match=r"could not load local-dir:.*weights"):
        load_open_clip(f"local-dir:{tmp_path}", None)


def test_other_weights_and_configurations_are_one_short_line(
    network: torch.nn.Module, tmp_path: Path
) -> None:
    save_file({"visual.proj": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"no archive")
    empty, odd = tmp_path / "empty", tmp_path / "odd"
    empty.mkdir()
    odd.mkdir()
    (odd / "open_clip_config.json").write_text('{"model_cfg": {}}')
    for model, weights, said in (
        (NAME, str(tmp_path / "other.safetensors"), "Missing key"),
        (NAME, str(tmp_path / "broken.pt"), "broken.pt"),
        (f"local-dir:{empty}", None, "config file missing"),
        (f"local-dir:{odd}", None, "text_cfg"),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            load_open_clip(model, weights)
        assert len(str(refused.value)) < 1000 and "\n" not in str(refused.value)
