"""Configurations are checked before anything is prepared: one line, the key and the value."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mot_lab.config import StudyConfig, load_study
from mot_lab.data.interface import Latents
from mot_lab.data.prepare import DataConfig
from mot_lab.module import ModelConfig
from mot_lab.parsing import from_dict
from mot_lab.plain import plain

STUDY = {"name": "tiny", "arms": ["dense", "mot"]}
# what is changed -> what the message must name
WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"dta": {}}, ["unknown key dta:", "{}", "data"]),
    ({"dta": {"rows": 3}}, ["unknown key dta:", "rows"]),
    ({"dta": None}, ["unknown key dta:", "None"]),
    ({"data": {"rws": 3}}, ["unknown key data.rws:", "3", "rows"]),
    ({"data": {"rws": {}}}, ["unknown key data.rws:"]),
    ({"data": {"scenes": {"emoji": 8}}}, ["unknown key data.scenes.emoji:", "8", "emojis"]),
    ({"model": {"backbone": {"wdth": 3}}}, ["unknown key model.backbone.wdth:", "3", "width"]),
    ({"data": None}, ["data:", "None"]),
    ({"model": 3}, ["model:", "3"]),
    ({"training": ["steps"]}, ["training:", "steps"]),
    ({"arms": ["dense", "mott"]}, ["'mott'", "dense, mot,"]),
    ({"arms": ["dense", [["text"], ["imge"]]]}, ["imge", "image"]),
    ({"arms": ["dense", [["text"]]]}, ["[['text']]", "exactly once"]),
    ({"arms": ["dense", {"a": {"attn": []}}]}, ["'a'", "attn"]),
    ({"arms": "dense"}, ["arms:", "dense", "list"]),
    ({"arms": []}, ["baseline", "'dense'"]),
    ({"arms": ["dense", "dense"]}, ["arms", "'dense', 'dense'", "repeat"]),
    ({"arms": ["dense", {"dense": [["text"], ["image"]]}]}, ["arms", "repeat"]),
    ({"baseline": "moe_4x"}, ["baseline", "'moe_4x'", "'mot'"]),
    ({"setting": "chamelon"}, ["setting:", "chamelon", "transfusion"]),
    ({"name": "a/b"}, ["name", "'a/b'"]),
    ({"name": 3}, ["name:", "3"]),
    ({"seeds": []}, ["seeds", "[]"]),
    ({"seeds": [1, 1]}, ["seeds", "[1, 1]"]),
    ({"seeds": [-1]}, ["seeds", "[-1]"]),
    ({"seeds": ["a"]}, ["seeds:", "a"]),
    ({"data": {"rows": "many"}}, ["data.rows:", "many", "int"]),
    ({"data": {"rows": 2.5}}, ["data.rows:", "2.5", "int"]),
    ({"data": {"rows": 0}}, ["rows", "0"]),
    ({"data": {"val_rows": 30}}, ["val_rows", "30", "16"]),
    ({"data": {"prose_share": 1.5}}, ["prose_share", "1.5"]),
    ({"data": {"patch": 3, "image": {"kind": "pixels"}}}, ["patch", "3", "32"]),
    ({"data": {"image": {"kind": "vqgan"}}}, ["data.image.kind:", "vqgan", "vae"]),
    ({"data": {"text": {"path": "none.json"}}}, ["none.json"]),
    ({"data": {"scenes": {"grid": 3}}}, ["grid", "3", "canvas"]),
    ({"data": {"eval_scenes": 10}}, ["eval_scenes", "10", "256"]),
    ({"model": {"backbone": {"width": "wide"}}}, ["model.backbone.width:", "wide", "int"]),
    ({"model": {"backbone": {"width": 100, "heads": 3}}}, ["width", "100", "heads"]),
    ({"model": {"backbone": {"layers": 0}}}, ["layers", "0"]),
    ({"model": {"backbone": {"norm": "sandwich"}}}, ["model.backbone.norm:", "sandwich", "pre"]),
    ({"model": {"optimizer": {"lr": "fast"}}}, ["model.optimizer.lr:", "fast", "float"]),
    ({"model": {"optimizer": {"betas": [0.9]}}}, ["model.optimizer.betas:", "0.9", "2"]),
    ({"model": {"optimizer": {"final_lr": 1.0}}}, ["final_lr", "1.0"]),
    ({"model": {"diffusion": {"codec": "conv"}}}, ["model.diffusion.codec:", "conv", "unet"]),
    ({"model": {"compile": "perhaps"}}, ["model.compile:", "perhaps", "bool"]),
    ({"arms": ["dense", {"a/b": [["text"], ["image"]]}]}, ["name", "'a/b'"]),
    ({"evaluation": {"images": 1}}, ["images", "1", "2"]),
    ({"evaluation": {"sample_steps": 0}}, ["sample_steps", "0"]),
    ({"evaluation": {"shown": -1}}, ["shown", "-1"]),
    ({"evaluation": {"images": 4, "shown": 5}}, ["shown 5", "4 images"]),
    ({"evaluation": {"extractors": ["incepton"]}}, ["'incepton'", "scene_clip, inception"]),
    ({"evaluation": {"extractors": ["ViT-nothing/openai"]}}, ["knows no model", "ViT-nothing"]),
    ({"evaluation": {"extractors": ["ViT-B-32"]}}, ["'ViT-B-32'", "needs weights", "openai"]),
    ({"training": {"steps": 0}}, ["steps", "0"]),
    ({"training": {"steps": 5}}, ["val_every", "25", "5"]),
    ({"training": {"precision": "fp8"}}, ["training.precision:", "fp8", "bf16-mixed"]),
    (
        {"training": {"attention": "documents"}, "model": {"compile": True}},
        ["model.compile", "training.attention documents", "leave one of them out"],
    ),
]


@pytest.mark.parametrize(("changes", "named"), WRONG, ids=[str(c) for c, _ in WRONG])
def test_what_is_wrong_is_one_line_with_key_and_value(
    changes: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        from_dict(StudyConfig, {**STUDY, **changes})
    message = str(caught.value)
    assert "\n" not in message
    assert "config." not in message and "<class" not in message
    for each in named:
        assert each in message, message


# what an arm is given of its own -> what the message must name
WRONG_OVERRIDES: list[tuple[Any, list[str]]] = [
    ({"arm": "mot", "model": {"optimizer": {"lrr": 1}}}, ["unknown key model.optimizer.lrr", "lr"]),
    ({"arm": "mot", "model": {"optimizer": {"lr": "fast"}}}, ["model.optimizer.lr:", "fast"]),
    ({"arm": "mot", "model": {"optimizer": {"lr": 1e-9}}}, ["final_lr", "1e-09"]),
    ({"arm": "mot", "model": {"backbone": 4}}, ["model.backbone:", "4", "mapping"]),
    ({"arm": "mot", "model": None}, ["model:", "None", "mapping"]),
    ({"arm": "mot", "training": {"steps": 0}}, ["steps 0"]),
    ({"arm": "mot", "training": {"steps": 10}}, ["val_every 25", "10"]),
    ({"arm": "mot", "training": {"precision": "fp8"}}, ["training.precision:", "fp8"]),
    ({"arm": "mot", "data": {"rows": 3}}, ["unknown key data", "same for every arm"]),
    ({"arm": "mot", "optimizer": {"lr": 1}}, ["unknown key optimizer", "arm, model, training"]),
    ({"arm": "mott", "training": {"steps": 50}}, ["'mott'", "mot,"]),
    ({"arm": [["text"]]}, ["exactly once"]),
    ({"training": {"steps": 50}}, ["arm is missing"]),
]


@pytest.mark.parametrize(
    ("entry", "named"), WRONG_OVERRIDES, ids=[str(e) for e, _ in WRONG_OVERRIDES]
)
def test_a_wrong_override_is_one_line_that_names_arm_and_key(entry: Any, named: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        from_dict(StudyConfig, {**STUDY, "arms": ["dense", {"odd": entry}]})
    message = str(caught.value)
    assert "\n" not in message and message.startswith("arms: arm 'odd': ")
    for each in named:
        assert each in message, message


def test_an_arm_with_overrides_is_the_study_but_for_them() -> None:
    two_towers = {"arm": {"inner": [["text"], ["image"]]}, "training": {"steps": 2000}}
    config = from_dict(
        StudyConfig,
        {
            **STUDY,
            "arms": [
                "dense",
                {"mot_slow": {"arm": "mot", "model": {"optimizer": {"lr": "1e-3"}}}},
                {"longer": two_towers},
                {"plain": {"arm": "mot"}},
            ],
            "model": {"backbone": {"layers": 3}, "optimizer": {"betas": [0.8, 0.9]}},
        },
    )
    dense, slow, longer, unchanged = config.parsed_arms
    assert [arm.name for arm in config.parsed_arms] == ["dense", "mot_slow", "longer", "plain"]
    assert (dense.model, dense.training) == (config.model, config.training)
    assert (unchanged.model, unchanged.training) == (config.model, config.training)
    optimizer = replace(config.model.optimizer, lr=0.001)
    assert slow.model == replace(config.model, optimizer=optimizer)
    assert slow.training == config.training
    assert longer.model == config.model
    assert longer.training == replace(config.training, steps=2000)
    assert slow.wiring == longer.wiring == unchanged.wiring != dense.wiring
    assert (slow.spec, longer.spec) == ("mot", two_towers["arm"])
    assert slow.description.endswith("; model.optimizer.lr=1e-3")
    assert config.model.optimizer.lr == 3e-4  # the study's own is untouched


@pytest.mark.parametrize("missing", ["name", "arms"])
def test_what_is_required(missing: str) -> None:
    values = {key: value for key, value in STUDY.items() if key != missing}
    with pytest.raises(ValueError, match=f"required: {missing}$"):
        from_dict(StudyConfig, values)


def test_defaults_and_settings() -> None:
    config = from_dict(
        StudyConfig,
        {
            **STUDY,
            "seeds": [3, 5],
            "data": {"scenes": {"emojis": 12}, "image": {"kind": "pixels"}, "patch": 4},
            "model": {"optimizer": {"betas": [0.8, 0.9]}},
        },
    )
    assert config.seeds == [3, 5]
    assert config.data.scenes.emojis == 12
    assert config.data.interface().others == {"image": Latents((3, 32, 32), 4)}
    assert config.data.interface().others["image"].length == 64
    assert config.model.optimizer.betas == (0.8, 0.9)
    assert [arm.name for arm in config.parsed_arms] == ["dense", "mot"]
    assert config.training == from_dict(StudyConfig, STUDY).training


@pytest.mark.parametrize("kind", [DataConfig, ModelConfig])
def test_what_a_checkpoint_holds_is_read_back(kind: type) -> None:
    config = kind()
    assert from_dict(kind, plain(config)) == config
    study = from_dict(StudyConfig, STUDY)
    assert from_dict(StudyConfig, yaml.safe_load(yaml.safe_dump(plain(study)))) == study
    assert asdict(study)["name"] == "tiny"


def write(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_a_file_with_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "name: tiny\narms: [dense, mot]\nmodel: {backbone: {layers: 3}}\n")
    config = load_study(path, ["training.steps=50", "arms=[dense]", "data.scenes.emojis=20"])
    assert config.training.steps == 50
    assert config.arms == ["dense"]
    assert config.data.scenes.emojis == 20
    assert config.model.backbone.layers == 3


@pytest.mark.parametrize(
    ("text", "overrides", "named"),
    [
        ("name: [", [], ["study.yaml", "no YAML"]),
        ("- dense", [], ["study.yaml", "list"]),
        ("", [], ["study.yaml", "NoneType"]),
        ("name: tiny\narms: [mott]", [], ["study.yaml", "'mott'"]),
        ("name: tiny\narms: [dense]", ["steps"], ["'steps'", "key.sub=value"]),
        ("name: tiny\narms: [dense]", ["training.stps=3"], ["training.stps", "3"]),
        ("name: tiny\narms: [dense]", ["name.sub=3"], ["'name.sub=3'", "name"]),
    ],
)
def test_a_wrong_file_is_one_line(
    tmp_path: Path, text: str, overrides: list[str], named: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        load_study(write(tmp_path, text), overrides)
    assert "\n" not in str(caught.value)
    for each in named:
        assert each in str(caught.value), str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml"):
        load_study(tmp_path / "none.yaml")
