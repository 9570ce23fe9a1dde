"""Evaluators by name: what a configuration can ask for, and what it hears when it cannot be had."""

from pathlib import Path

import pytest

from evaluation.metrics import evaluators
from mot_lab.config import EvaluationConfig


def loaded(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[tuple[str, object]]:
    """What would be loaded, by the loaders that are called."""
    calls: list[tuple[str, object]] = []
    monkeypatch.setattr(
        evaluators, "inception", lambda weights, device: calls.append(("fid", weights))
    )
    monkeypatch.setattr(
        evaluators,
        "load_open_clip",
        lambda model, pretrained, device: calls.append((model, pretrained)),
    )
    monkeypatch.setattr(evaluators, "clip_features", lambda clip: None)
    evaluators.load_evaluators(EvaluationConfig(extractors=list(names)), data=None)
    return calls


def test_names_and_paths_reach_the_loaders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inception, clip, folder = (tmp_path / name for name in ("inception.pth", "clip.pt", "clip"))
    inception.touch()
    clip.touch()
    folder.mkdir()
    assert loaded(
        monkeypatch,
        "inception",
        f"inception:{inception}",
        "ViT-B-32/laion2b_s34b_b79k",
        f"ViT-B-32/{clip}",
        "hf-hub:org/name",
        f"local-dir:{folder}",
    ) == [
        ("fid", None),
        ("fid", str(inception)),
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32", str(clip)),
        ("hf-hub:org/name", None),
        (f"local-dir:{folder}", None),
    ]


@pytest.mark.parametrize("name", ["inception:/nowhere.pth", "ViT-B-32", "ViT-nothing/openai"])
def test_what_is_not_at_hand_is_said(name: str) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.pth|needs weights|knows no model"):
        evaluators.load_evaluators(EvaluationConfig(extractors=[name]), data=None)
