"""Every study that is shipped for laptops is read, has its arms and rungs, and shares its data."""

from pathlib import Path

import pytest

from mot_lab.config import StudyConfig, load_study, read_settings
from mot_lab.ladder import Ladder, read_ladder

FOLDER = Path(__file__).parent.parent / "experiments" / "openmoji"
HEAD_TO_HEAD = ["dense", "moe_2x", "moe_3x", "moe_4x", "mot", "mot_text_moe_4x"]
ARMS = {
    "transfusion": ["dense", "moe_4x", "mot"],
    "transfusion_arms": HEAD_TO_HEAD,
    "chameleon": HEAD_TO_HEAD,
    "chameleon_speech": HEAD_TO_HEAD,
    "leave_one_out": ["dense", "loo_text", "loo_image", "loo_speech", "mot"],
    "ablation": ["dense", "untie_ffn", "untie_ffn_qkv_shared_o", "untie_ffn_qkv", "mot"],
    "size_ladder": ["dense", "moe_4x", "mot"],
    "batch_ladder": ["dense", "mot"],
}
RUNGS = {
    "size_ladder": ("size", {"w48": 48, "w96": 96, "w144": 144}),
    "batch_ladder": ("batch", {"b4": 4, "b8": 8, "b16": 16}),
}
# A longer study draws more scenes; its tokenizers are fitted on the first 4,000 as all others are.
TRAIN_SCENES = {"chameleon": 24_000}
FEWEST_POINTS = 20  # of a validation curve past its warm-up: what an interval over points needs


def studies(name: str) -> list[StudyConfig]:
    """The study of a file, or those of a ladder's rungs."""
    if name in RUNGS:
        return [rung.config for rung in ladder(name).rungs]
    return [load_study(FOLDER / f"{name}.yaml")]


def ladder(name: str) -> Ladder:
    path = FOLDER / f"{name}.yaml"
    return read_ladder(read_settings(path), str(path))


def test_all_files_are_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(ARMS)


@pytest.mark.parametrize("name", ARMS)
def test_a_file_has_its_arms_and_enough_points(name: str) -> None:
    for config in studies(name):
        assert config.name.startswith(name)
        assert [arm.name for arm in config.parsed_arms] == ARMS[name]
        training, warmup = config.training, config.model.optimizer.warmup_steps
        assert training.steps // training.val_every - warmup // training.val_every >= FEWEST_POINTS


@pytest.mark.parametrize("name", RUNGS)
def test_a_ladder_has_its_rungs(name: str) -> None:
    along, steps = RUNGS[name]
    found = ladder(name)
    assert found.along == along and [rung.name for rung in found.rungs] == list(steps)
    for rung, step in zip(found.rungs, steps.values(), strict=True):
        backbone, data = rung.config.model.backbone, rung.config.data
        assert step == (backbone.width if along == "size" else data.rows)
        assert rung.places == data.rows * data.row_length
        heads = {
            each.config.model.backbone.width // each.config.model.backbone.heads
            for each in found.rungs
        }
        assert len(heads) == 1


@pytest.mark.parametrize("name", ARMS)
def test_studies_share_what_is_fitted_and_prepared(name: str) -> None:
    first = load_study(FOLDER / "transfusion.yaml").data
    for config in studies(name):
        data = config.data
        assert (data.scenes, data.text, data.seed) == (first.scenes, first.text, first.seed)
        assert data.train_scenes == TRAIN_SCENES.get(name, first.train_scenes)
        assert data.eval_scenes == first.eval_scenes
        base = load_study(FOLDER / f"{config.setting}.yaml").data
        assert (data.image, data.speech) == (base.image, base.speech)
