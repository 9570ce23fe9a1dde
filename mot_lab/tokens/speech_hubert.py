"""Speech features of a HuBERT model (Hsu et al. 2021) that others trained, by folder or hub id.

Imported with the other features; `transformers` only where there is a model to load.

Shapes: n samples, U units, D features of a unit.
"""

import hashlib
import json
import math
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from mot_lab.tokens.pretrained import kind_of, unreadable
from mot_lab.tokens.speech_features import (
    SAMPLES_PER_UNIT,
    LogMelFeatures,
    SpeechFeatures,
    speech_extra,
)

NETWORK = "HubertModel"
MASK = "masked_spec_embed"  # of training alone; some releases leave it out


class HubertFeatures(SpeechFeatures):
    """Hidden states of a transformers ``HubertModel``, averaged over each unit's 40 ms.

    Recordings go through it one at a time: its first layers normalise over time, so that padding
    would change the units.

    Args:
        path: folder or hub id of the model.
        layer: hidden state; 0 is what enters the first layer.

    Raises:
        ValueError: no such model, no such layer, or frames that do not divide a unit.
    """

    def __init__(self, path: str, layer: int) -> None:
        self.model = _load(path)
        config = self.model.config
        if not 0 <= layer <= config.num_hidden_layers:
            raise ValueError(f"layer {layer} of {path!r} must be 0 to {config.num_hidden_layers}")
        self.stride = math.prod(config.conv_stride)
        if SAMPLES_PER_UNIT % self.stride:
            raise ValueError(
                f"{path!r} has a frame every {self.stride} samples, which does not divide the "
                f"{SAMPLES_PER_UNIT} of a unit"
            )
        self._missing = _receptive_field(config.conv_kernel, config.conv_stride) - self.stride
        self._normalise = _normalises(path)
        self.layer = layer
        digest = hashlib.sha256(json.dumps([layer, self._normalise]).encode())
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.contiguous().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]
        self.settings = {"features": "hubert", "path": path, "layer": layer}

    @torch.inference_mode()
    def __call__(self, wave_n: np.ndarray) -> np.ndarray:
        if self._normalise:
            wave_n = (wave_n - wave_n.mean()) / np.sqrt(wave_n.var() + 1e-7)
        # With the samples that the last frame looks ahead, every unit has all of its frames.
        samples_1n = torch.from_numpy(np.pad(wave_n, (0, self._missing)))[None]
        states = self.model(samples_1n, output_hidden_states=True).hidden_states
        units = len(wave_n) // SAMPLES_PER_UNIT
        return states[self.layer][0].reshape(units, -1, states[0].shape[-1]).mean(dim=1).numpy()


def load_features(settings: dict[str, Any]) -> SpeechFeatures:
    """The features that `SpeechFeatures.settings` describe."""
    if settings["features"] == "log_mel":
        return LogMelFeatures()
    return HubertFeatures(settings["path"], settings["layer"])


def _load(path: str) -> Any:
    """In fp32 whatever it was saved in, for inference."""
    with speech_extra():
        from transformers import HubertConfig, HubertModel
    try:
        values, _ = HubertConfig.get_config_dict(path)
        if values.get("model_type") != "hubert":
            raise ValueError(f"it is {kind_of(values)}")
        loaded: Any = HubertModel.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, UnpicklingError) as error:
        raise unreadable(path, "", NETWORK, error) from error
    model, found = loaded
    missing = set(found["missing_keys"])
    if MASK in missing:  # drawn at random, and part of the fingerprint
        torch.nn.init.zeros_(model.masked_spec_embed)
    if missing := missing - {MASK}:
        reason = f"{len(missing)} weights are missing, like {min(missing)}"
        raise unreadable(path, "", NETWORK, reason)
    return model.eval().requires_grad_(False)


def _normalises(path: str) -> bool:
    """Whether recordings are brought to mean 0 and variance 1 first."""
    from transformers import Wav2Vec2FeatureExtractor

    try:
        return bool(Wav2Vec2FeatureExtractor.from_pretrained(path).do_normalize)
    except OSError:  # a model saved without its preprocessor: HuBERT's own setting
        return True


def _receptive_field(kernels: list[int], strides: list[int]) -> int:
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
