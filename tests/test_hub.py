"""Every pretrained part by its hub id is what it is by its folder, and by its line of YAML."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub import served
from hub_parts import CANVAS, LOADERS, loaded

from mot_lab.config import StudyConfig
from mot_lab.parsing import from_dict

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small models with random weights, saved by the libraries that they are of."""
    from diffusers import AutoencoderKL, VQModel
    from open_clip import create_model, get_model_config
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file
    from tokens.released_tokenizers import save_released
    from tokens.test_speech_hubert import save_hubert
    from transformers import ChameleonVQVAE
    from transformers.models.chameleon.configuration_chameleon import ChameleonVQVAEConfig
    from upcycling.language_models import language_model, save

    place = tmp_path_factory.mktemp("folders")
    folders = {part: place / part for part in LOADERS}
    save_released("llama_2", folders["text"])
    save(language_model("llama"), folders["language_model"])
    vae = AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    vae.save_pretrained(folders["vae"])
    vae.save_pretrained(folders["pipeline"] / "vae")
    VQModel(block_out_channels=(32,), num_vq_embeddings=12).save_pretrained(folders["vq"])
    chameleon = ChameleonVQVAEConfig(
        base_channels=32, channel_multiplier=[1], num_embeddings=8, resolution=CANVAS
    )
    ChameleonVQVAE(chameleon).save_pretrained(folders["chameleon"])
    save_hubert(folders["hubert"], (5, 8, 8), True)
    folders["clip"].mkdir()
    config = get_model_config("ViT-B-32")
    config["vision_cfg"] = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16}
    config["vision_cfg"]["head_width"] = 16
    config["text_cfg"] |= {"width": 16, "heads": 2, "layers": 1}
    clip = create_model("ViT-B-32", **config)
    save_config_for_hf(clip, folders["clip"] / "open_clip_config.json", config)
    save_file(clip.state_dict(), folders["clip"] / "open_clip_model.safetensors")
    return folders


def in_another_process(places: list[dict[str, str]], **variables: str) -> list[dict[str, Any]]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_DISABLE_XET": "1", **variables}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "hub_parts.py"), json.dumps(places)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_hub_ids_are_the_folders(folders: dict[str, Path], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    expected = loaded({part: str(folder) for part, folder in folders.items()})
    assert not any(str(each).startswith("ValueError") for each in expected.values()), expected
    home = {"HF_HOME": str(tmp_path / "home")}
    ids = {part: f"me/{part}" for part in folders}
    absent = dict.fromkeys(folders, "me/absent")
    with served({f"me/{part}": folder for part, folder in folders.items()}) as (endpoint, asked):
        found, said = in_another_process([ids, absent], HF_ENDPOINT=endpoint, **home)
    assert found.keys() == expected.keys()
    for part, value in expected.items():
        assert found[part] == (pytest.approx(value) if part == "clip" else value), part
    for part, error in said.items():
        assert error.startswith("ValueError: ") and "me/absent" in error, (part, error)
        assert "\n" not in error and len(error) < 1000, (part, error)
    fetched = [each for each in asked if each.startswith("GET me/") and "resolve" in each]
    assert len(fetched) == len(set(fetched))  # nothing twice
    # The endpoint is gone: what was fetched serves without it.
    (again,) = in_another_process([{"text": "me/text"}], HF_HUB_OFFLINE="1", **home)
    assert again == {"text": expected["text"]}


def test_the_lines_of_yaml_that_the_documentation_gives(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for part in ("pipeline", "vq", "chameleon", "hubert", "clip"):
        (models / part).symlink_to(folders[part])
    (models / "llama").symlink_to(folders["text"])
    (models / "clip.pt").touch()
    (models / "inception.pth").touch()
    page = (ROOT / "docs" / "pretrained.md").read_text()
    lines = re.findall(r"^\| [^|]+ \| `([^`|]+)` \|", page, re.MULTILINE)
    assert len(lines) == 11
    found = {}
    for line in lines:
        values = yaml.safe_load(line.replace("/models/", f"{models}/"))
        # Pictures that are not halved have many tokens.
        values["data"] = {"row_length": 2048, **values.get("data", {})}
        setting = "chameleon" if "kind: vq" in line else "transfusion"
        study = {"name": "documented", "arms": ["dense"], "setting": setting}
        found[line] = from_dict(StudyConfig, {**study, **values})
    others = {
        type(config.data.interface().others["image"]).__name__: line
        for line, config in found.items()
        if "image" in line
    }
    assert set(others) == {"Codes", "Latents"}
    (text,) = (config for line, config in found.items() if "text" in line)
    assert text.data.interface().text_vocabulary > 256
    (speech,) = (config for line, config in found.items() if "hubert" in line)
    assert speech.data.interface().others["speech"].size == 500
