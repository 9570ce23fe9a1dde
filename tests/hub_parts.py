"""Loads pretrained parts by paths or hub ids and says what they are: a process of its own for
``test_hub.py``, since libraries read the hub's variables when they are imported.

    python tests/hub_parts.py '{"text": "me/llama"}'
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CANVAS = 16


def text(path: str) -> Any:
    """The whole tokenizer, hashed."""
    from mot_lab.tokens.text import TextTokenizer

    return TextTokenizer.load(path, ("image",)).key()


def language_model(path: str) -> Any:
    """Hash of what ``model.start_from`` reads."""
    from mot_lab.upcycling.start import start_digest

    return start_digest(path)


def _pictures(path: str, **settings: str) -> Any:
    from mot_lab.tokens.image import ImageTokenizerConfig, load_image_tokenizer

    config = ImageTokenizerConfig(path=path, **settings)  # type: ignore[arg-type]
    return load_image_tokenizer(config, CANVAS, lambda start, count: np.empty(0), "").fingerprint


def vae(path: str) -> Any:
    """Hash of weights and configuration."""
    return _pictures(path)


def pipeline(path: str) -> Any:
    """Of the autoencoder in a subfolder."""
    return _pictures(path, subfolder="vae")


def vq(path: str) -> Any:
    """Of a VQModel or of Chameleon's."""
    return _pictures(path, kind="vq")


def hubert(path: str) -> Any:
    """Of weights, layer and normalisation."""
    from mot_lab.tokens.speech_hubert import HubertFeatures

    return HubertFeatures(path, 1).fingerprint


def clip(path: str) -> Any:
    """Features of a picture, a list."""
    from evaluation.metrics.clip_score import load_open_clip

    name = f"local-dir:{path}" if Path(path).is_dir() else f"hf-hub:{path}"
    ramp = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(1, 32, 32, 3)
    return load_open_clip(name, None).encode_images(ramp)[0].tolist()


LOADERS: dict[str, Callable[[str], Any]] = {
    "text": text,
    "language_model": language_model,
    "vae": vae,
    "pipeline": pipeline,
    "vq": vq,
    "chameleon": vq,
    "hubert": hubert,
    "clip": clip,
}


def loaded(places: dict[str, str]) -> dict[str, Any]:
    """What is at the places, by part; an error's words where nothing is."""
    found = {}
    for part, path in places.items():
        try:
            found[part] = LOADERS[part](path)
        except ValueError as error:
            found[part] = f"ValueError: {error}"
    return found


if __name__ == "__main__":
    print(json.dumps([loaded(places) for places in json.loads(sys.argv[1])]))
