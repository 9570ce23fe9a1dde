"""Every configuration of the paper trains, shrunk: two steps of each arm, by the real Trainer.

Only sizes are overridden; the files of one setting share their tiny prepared data.
"""

import json
import math
from pathlib import Path

import pytest
import torch

from mot_lab.config import StudyConfig, load_study
from mot_lab.plain import plain
from mot_lab.training import Run, runs_of, train

PAPER = Path(__file__).parents[1] / "experiments" / "paper"
FILES = sorted(path.stem for path in PAPER.glob("*.yaml"))

SHRUNK = [
    "data.scenes={emojis: 16, unseen_concepts: 4, canvas: 32, grid: 2, max_objects: 1, grounds: 2}",
    "data.text.vocab_size=300",
    *("data.train_scenes=32", "data.eval_scenes=8", "evaluation.images=8"),
    *("data.row_length=192", "data.rows=2", "data.val_rows=2", "data.prose_share=0.1"),
    *("training.steps=2", "training.val_every=2", "training.log_every=1"),
    *("training.checkpoint_every=2", "model.backbone.layers=2"),
]
SHRUNK_SETTING = {
    "transfusion": [
        *(
            "data.image.fit.fit_steps=2",
            "data.image.fit.width=32",
            "model.diffusion.unet_channels=16",
        ),
    ],
    "chameleon": [
        *("data.image.vq.fit_steps=2", "data.image.vq.width=32", "data.image.vq.size=64"),
    ],
}
SHRUNK_SETTING["chameleon_speech"] = [
    *SHRUNK_SETTING["chameleon"],
    *("data.speech.tokenizer.units=8", "data.speech.tokenizer.fit_recordings=8"),
    *("data.speech.voices=[en-us]", "data.speech.speeds=[450]", "data.speech.share=0.5"),
]


def shrunk(full: StudyConfig) -> StudyConfig:
    width = f"model.backbone.width={4 * full.model.backbone.heads}"
    overrides = [*SHRUNK, *SHRUNK_SETTING[full.setting], width]
    return load_study(PAPER / f"{full.name}.yaml", overrides)


@pytest.mark.parametrize("name", FILES)
def test_every_arm_trains_two_steps(name: str, tmp_path: Path) -> None:
    full = load_study(PAPER / f"{name}.yaml")
    config = shrunk(full)
    require_only_smaller(config, full)
    runs = runs_of(config, tmp_path)
    assert [run.arm for run in runs] == [arm.name for arm in full.parsed_arms]
    for run in runs:
        train(run, tracking_uri=None)
        require_trained(run)


def require_only_smaller(config: StudyConfig, full: StudyConfig) -> None:
    """All but the sizes is the file's own."""
    assert (config.arms, config.setting, config.baseline) == (full.arms, full.setting, "dense")
    small, large = plain(config.model), plain(full.model)
    for part, sizes in (("backbone", ("width", "layers")), ("diffusion", ("unet_channels",))):
        for size in sizes:
            del small[part][size], large[part][size]
    assert small == large
    assert config.data.interface().modalities == full.data.interface().modalities
    assert config.data.image.kind == full.data.image.kind
    assert config.training.gradient_clip == full.training.gradient_clip


def require_trained(run: Run) -> None:
    """Losses of every modality are finite, and every matrix of the backbone has moved."""
    assert run.is_trained()
    logged = {}
    for line in (run.folder.path / "metrics.jsonl").read_text().splitlines():
        logged |= json.loads(line)
    assert logged["step"] == 2
    for modality in run.config.data.interface().modalities:
        for curve in ("train", "val"):
            loss = logged[f"{curve}/{modality}/loss"]
            assert 0 < loss < 10 and math.isfinite(loss), (run.arm, curve, modality)
    before = run.module().state_dict()
    after = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    matrices = [key for key, weight in before.items() if weight.dim() > 1 and "blocks" in key]
    assert matrices
    for key in matrices:
        assert after[key].isfinite().all(), (run.arm, key)
        assert not torch.equal(after[key], before[key]), (run.arm, key)
