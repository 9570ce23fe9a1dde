"""Every setting, small, from its data to its report: what is trained, scored, drawn and heard."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy.io import wavfile
from tiny_studies import CODES, SPOKEN, TINY_SCENES

from evaluation.report.build import build_report
from evaluation.store.read import read_study
from evaluation.trained.runs import evaluate_run, prepare_evaluators
from mot_lab.config import StudyConfig
from mot_lab.parsing import from_dict
from mot_lab.study import Study

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"setting": "transfusion", "model": {"diffusion": {"codec": "linear"}}},
    "unet": {
        "setting": "transfusion",
        "model": {"diffusion": {"codec": "unet", "unet_channels": 8, "objective": "flow"}},
    },
    "chameleon": {
        "setting": "chameleon",
        "data": {**TINY_SCENES, "image": CODES, "caption_dropout": 0.2},
        "model": {"backbone": {"norm": "post"}, "z_loss": 1e-5},
    },
    "chameleon_speech": {
        "setting": "chameleon_speech",
        "data": {**TINY_SCENES, "image": CODES, "speech": SPOKEN, "row_length": 224},
        "arms": ["dense", "moe_4x", "mot", "loo_speech"],
    },
    "fourth_modality": {
        "setting": "chameleon_speech",
        "data": {
            **TINY_SCENES,
            "image": CODES,
            "speech": SPOKEN,
            "row_length": 224,
            "styles": {"grey": {"rendering": "grey", "image": CODES, "share": 0.4}},
        },
        "arms": ["dense", "mot", {"pictures": [["text"], ["image", "grey"], ["speech"]]}],
    },
}
BACKBONE = {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16}
MODALITIES = {
    "linear": ("text", "image"),
    "unet": ("text", "image"),
    "chameleon": ("text", "image"),
    "chameleon_speech": ("text", "image", "speech"),
    "fourth_modality": ("text", "image", "speech", "grey"),
}


def settings(name: str) -> dict[str, Any]:
    """The study of a setting, with what all of them have in common."""
    own = SETTINGS[name]
    model = own.get("model", {})
    return {
        "name": name,
        "arms": own.get("arms", ["dense", "mot"]),
        "setting": own["setting"],
        "data": own.get("data", TINY_SCENES),
        "model": {
            **model,
            "backbone": {**BACKBONE, **model.get("backbone", {})},
            "optimizer": {"lr": 3e-3, "final_lr": 1e-3, "warmup_steps": 2},
        },
        "training": {"steps": 12, "val_every": 3, "log_every": 2, "checkpoint_every": 6},
        "evaluation": {"images": 4, "sample_steps": 2, "shown": 2, "extractors": []},
        "router": {"steps": 2},
    }


@pytest.fixture(scope="module", params=SETTINGS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    values = settings(request.param)
    folder = tmp_path_factory.mktemp("runs") / request.param
    study = Study(from_dict(StudyConfig, values), yaml.safe_dump(values), folder)
    study.run(prepare_evaluators, evaluate_run)
    build_report(study.tracking_uri, request.param, folder)
    return study


def test_every_modality_is_learnt_by_every_arm(study: Study) -> None:
    record = read_study(study.tracking_uri, study.config.name)
    assert tuple(record.modalities) == MODALITIES[study.config.name]
    assert list(record.arms) == [arm.name for arm in study.config.parsed_arms]
    for run in record.runs:
        for modality in record.modalities:
            values = run.curves[modality, "val"].values
            assert len(values) == 4
            assert all(math.isfinite(value) for value in values)
            assert values[-1] < values[0], (run.arm, modality)


def test_losses_of_discrete_modalities_begin_near_the_joint_vocabulary(study: Study) -> None:
    """The softmax is over all of it (trap 24), and weights are small at first."""
    size = study.config.data.interface().vocab_size
    for run in read_study(study.tracking_uri, study.config.name).runs:
        first = run.curves["text", "train"].values[0]
        assert first == pytest.approx(math.log(size), rel=0.1)


def test_what_is_scored(study: Study) -> None:
    report = json.loads((study.folder / "report.json").read_text())
    names = {metric["name"] for metric in report["metrics"] if metric["arm"] == "mot"}
    assert {"objects right", "relations right", "scenes right", "CIDEr"} <= names
    diffused = study.config.data.interface().diffused
    assert ("diffusion loss (validation)" in names) == (diffused == "image")
    for modality in MODALITIES[study.config.name][1:]:
        assert (f"{modality} perplexity (validation)" in names) == (modality != diffused)
    spoken = "speech" in MODALITIES[study.config.name]
    assert ("word error rate" in names) == spoken
    assert all(each["value"] is not None for each in report["metrics"])
    assert {row["modality"] for row in report["matching"]} == set(MODALITIES[study.config.name])
    tokenizers = report["tokenizers"]
    assert tuple(tokenizers) == tuple(
        sorted(MODALITIES[study.config.name], key=list(tokenizers).index)
    )


def test_speech_is_heard_in_the_report(study: Study) -> None:
    sounds = sorted((study.folder / "sounds").glob("*.wav"))
    page = (study.folder / "report.html").read_text()
    if "speech" not in MODALITIES[study.config.name]:
        assert not sounds and "<audio" not in page
        return
    arms = len(study.config.parsed_arms)
    assert 2 < len(sounds) <= 2 * (1 + arms)  # an untrained arm may say nothing
    assert page.count("<audio") == len(sounds)
    for path in sounds:
        rate, samples = wavfile.read(io.BytesIO(path.read_bytes()))
        assert rate > 8000 and len(samples) >= rate / 25
        assert abs(samples.astype(float)).max() > 1000
    assert "sounds/speech_0_1.wav" in (study.folder / "report.md").read_text()


def test_samples_are_in_the_tracking_store(study: Study, tmp_path: Path) -> None:
    for run in read_study(study.tracking_uri, study.config.name).runs:
        assert len(run.samples) == 2
        assert all(sample.generated and sample.reference for sample in run.samples)
        assert len(run.speech) == (2 if "speech" in MODALITIES[study.config.name] else 0)
        for spoken in run.speech:
            assert spoken.recording and spoken.heard is not None and spoken.text
