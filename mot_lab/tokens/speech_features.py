"""What speech units are clustered from: log-mel frames here, HuBERT's in ``speech_hubert.py``.

Units come at 25 Hz, as in SpiRit-LM (Nguyen et al. 2024): one for every 640 samples at 16 kHz.

Shapes: n samples, U units, 4 log-mel frames of a unit, M bands, D features of a unit.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLE_RATE = 16_000
UNIT_RATE = 25
SAMPLES_PER_UNIT = SAMPLE_RATE // UNIT_RATE
FRAMES_PER_UNIT = 4
HOP = SAMPLES_PER_UNIT // FRAMES_PER_UNIT
FFT = 512
WINDOW = 400
BANDS = 80
LOUDNESS = 0.5  # that every recording is brought to, see `loudness`
PAUSE = 30 / 20 * math.log(10)  # nats: frames this far below the loudest are pauses
FAINTEST = 1e-4  # of a recording's largest mel magnitude: what is fainter counts as this
FLOOR = 1e-3  # of mel magnitudes: about 60 dB below the loudest of speech
SILENCE = 1e-4  # largest sample of a recording that holds nothing: -80 dB of full scale


@dataclass(frozen=True)
class Recording:
    """A sound and where it comes from.

    Attributes:
        name: said in errors: a file, or a record's number.
        wave_n: float32 samples of one channel.
        rate: samples a second.
    """

    name: str
    wave_n: np.ndarray
    rate: int


@contextmanager
def speech_extra() -> Iterator[None]:
    """Turn the absence of a package that only speech needs into one line that says what to do."""
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"speech needs the package {error.name}: pip install 'mot-lab[speech]'"
        ) from error


class UnusableRecording(ValueError):
    """A recording without sound: missing, unreadable, empty, not finite or silent."""


def require_sound(recording: Recording) -> None:
    """Refuse what cannot be turned into units.

    Raises:
        UnusableRecording: empty, not of one channel, not finite, or silent; with its name.
    """
    wave_n = recording.wave_n
    if wave_n.ndim != 1 or not len(wave_n):
        raise UnusableRecording(f"{recording.name}: samples {list(wave_n.shape)}, not one channel")
    if not np.isfinite(wave_n).all():
        raise UnusableRecording(f"{recording.name}: holds samples that are not finite")
    if np.abs(wave_n).max() < SILENCE:
        raise UnusableRecording(f"{recording.name}: silent, no sample reaches {SILENCE}")


def unit_wave(recording: Recording) -> np.ndarray:
    """Samples at 16 kHz, of one loudness, padded with silence to whole units: float32 [640 U].

    Raises:
        UnusableRecording: see `require_sound`.
    """
    require_sound(recording)
    wave_n = recording.wave_n
    if recording.rate != SAMPLE_RATE:
        with speech_extra():
            import librosa
        wave_n = librosa.resample(wave_n, orig_sr=recording.rate, target_sr=SAMPLE_RATE)
    units = math.ceil(len(wave_n) / SAMPLES_PER_UNIT)
    padded_n = np.pad(wave_n, (0, units * SAMPLES_PER_UNIT - len(wave_n)))
    return (padded_n * (LOUDNESS / loudness(padded_n))).astype(np.float32)


def loudness(wave_n: np.ndarray) -> float:
    """Geometric mean of the mel magnitudes of the frames within 30 dB of the loudest.

    Pauses do not count. Means of logarithms are what the centroids of log-mels keep, so that sound
    decoded from units has nearly the loudness of what was encoded, and encodes to the same units;
    its root mean square falls much further.

    Args:
        wave_n: not silent.
    """
    magnitude_MF = _mel(wave_n, SAMPLES_PER_UNIT)
    level_F = np.log(np.maximum(magnitude_MF, magnitude_MF.max() * FAINTEST)).mean(axis=0)
    return float(np.exp(level_F[level_F > level_F.max() - PAUSE].mean()))


def log_mel(wave_n: np.ndarray) -> np.ndarray:
    """Natural logarithm of mel magnitudes, 4 frames a unit: float32 [U, 4, M].

    Frame f is centred on sample 160 f.

    Args:
        wave_n: from `unit_wave`.
    """
    # The last frame is centred behind the last sample.
    log_FM = np.log(np.maximum(_mel(wave_n, HOP)[:, :-1], FLOOR)).T
    return np.ascontiguousarray(log_FM).reshape(-1, FRAMES_PER_UNIT, BANDS)


def _mel(wave_n: np.ndarray, hop: int) -> np.ndarray:
    """Mel magnitudes, float32 [M, 1 + n // hop]."""
    with speech_extra():
        import librosa
    return librosa.feature.melspectrogram(
        y=wave_n,
        sr=SAMPLE_RATE,
        n_fft=FFT,
        win_length=WINDOW,
        hop_length=hop,
        n_mels=BANDS,
        norm=None,
        power=1.0,
        pad_mode="constant",
    )


class SpeechFeatures(ABC):
    """Features of every unit of a recording.

    Attributes:
        fingerprint: hash of all that they depend on beside the recording.
        settings: plain values that `speech_hubert.load_features` makes them of again.
    """

    fingerprint: str
    settings: dict[str, Any]

    @abstractmethod
    def __call__(self, wave_n: np.ndarray) -> np.ndarray:
        """float32 [U, D] of samples from `unit_wave`."""


class LogMelFeatures(SpeechFeatures):
    """A unit's four log-mel frames, one after the other: D = 320."""

    def __init__(self) -> None:
        parts = [SAMPLE_RATE, UNIT_RATE, FFT, WINDOW, HOP, BANDS, LOUDNESS, PAUSE, FAINTEST, FLOOR]
        self.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        self.settings = {"features": "log_mel"}

    def __call__(self, wave_n: np.ndarray) -> np.ndarray:
        return log_mel(wave_n).reshape(-1, FRAMES_PER_UNIT * BANDS)
