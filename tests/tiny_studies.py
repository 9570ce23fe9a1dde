"""Data of studies that a test can run: raw pixels, so that nothing is fitted but the words."""

from typing import Any

FEW_SCENES: dict[str, Any] = {
    "train_scenes": 64,
    "eval_scenes": 32,
    "image": {"kind": "pixels"},
    "patch": 8,
    "rows": 2,
    "val_rows": 4,
}

TINY_SCENES: dict[str, Any] = {
    "scenes": {"emojis": 8, "unseen_concepts": 2, "canvas": 8},
    "text": {"vocab_size": 300},
    "image": {"kind": "pixels"},
    "patch": 4,
    "train_scenes": 64,
    "eval_scenes": 16,
    "row_length": 64,
    "rows": 4,
    "val_rows": 8,
}

CODES: dict[str, Any] = {"kind": "vq", "vq": {"fit_steps": 60, "size": 32, "width": 32}}

SPOKEN: dict[str, Any] = {
    "share": 0.5,
    "voices": ["en-us", "en-us+f2"],
    "speeds": [300],
    "pitches": [50],
    "tokenizer": {"units": 16, "fit_recordings": 16},
}
