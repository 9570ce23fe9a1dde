"""Speech tokens: recordings as units at 25 Hz, clustered by k-means, and units as sound again.

Shapes: n samples, U units of a recording, K units there are, D features, 4 frames of M log-mels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np

from mot_lab.limits import MOST_PLACES, MOST_THINGS, require_between
from mot_lab.parsing import shown
from mot_lab.runtime.plain_files import laid_out, read_json
from mot_lab.tokens.speech_features import (
    BANDS,
    FFT,
    FLOOR,
    FRAMES_PER_UNIT,
    HOP,
    SAMPLE_RATE,
    SAMPLES_PER_UNIT,
    WINDOW,
    Recording,
    SpeechFeatures,
    speech_extra,
    unit_wave,
)
from mot_lab.tokens.speech_hubert import load_features

Features = Literal["log_mel", "hubert"]
ABOUT = "units.json"
GRIFFIN_LIM_STEPS = 60


MOST_LAYER = 1000


@dataclass
class SpeechTokenizerConfig:
    """Which speech tokenizer a run uses.

    Attributes:
        features: what units are clustered from: ``log_mel`` frames, or ``hubert`` hidden states.
        path: of saved units (a folder of `SpeechTokenizer.save`), to be used instead of fitting
            any; or, for ``hubert``, of the model: a folder or a hub id.
        layer: hidden state of the HuBERT model; 6 of the base model (Lakhotia et al. 2021).
        units: K to be fitted; the paper has 500, of a corpus of many speakers.
        deduplicate: write a run of equal units as one (SpiRit-LM counts its tokens so).
        fit_recordings: the first recordings of training that units are fitted on.
    """

    features: Features = "log_mel"
    path: str | None = None
    layer: int = 6
    units: int = 100
    deduplicate: bool = False
    fit_recordings: int = 1000

    def __post_init__(self) -> None:
        if self.features not in get_args(Features):
            raise ValueError(
                f"speech features {self.features!r} are none of {', '.join(get_args(Features))}"
            )
        require_between(self, 1, MOST_PLACES, "units")
        require_between(self, 1, MOST_THINGS, "fit_recordings")
        require_between(self, 0, MOST_LAYER, "layer")
        if self.features == "hubert" and self.path is None:
            raise ValueError(
                "features 'hubert' need the path of a HuBERT model, a folder or hub id"
            )
        if self.features == "log_mel" and self.path is not None and not self.saved:
            raise ValueError(
                f"path {self.path!r}: no saved speech units at that place; give their folder"
            )

    def vocabulary(self) -> int:
        """K, without fitting anything."""
        return _read_about(self.path)["units"] if self.path and self.saved else self.units

    @property
    def saved(self) -> bool:
        """Whether the path is of saved units; otherwise they are fitted."""
        return self.path is not None and (Path(self.path) / ABOUT).is_file()


class SpeechTokenizer:
    """Recordings to units and back.

    Args:
        features: of a recording.
        centroids_KD: a unit is the nearest of them.
        frames_KFM: log-mel frames that each unit sounds like, four of them.
        runs_K: how many times each unit comes in a row, on average.
        deduplicate: write a run of equal units as one.

    Attributes:
        size: K.
        sample_rate: of decoded sound.
        fingerprint: hash of all that the units depend on, for cache keys.
    """

    sample_rate = SAMPLE_RATE

    def __init__(
        self,
        features: SpeechFeatures,
        centroids_KD: np.ndarray,
        frames_KFM: np.ndarray,
        runs_K: np.ndarray,
        deduplicate: bool = False,
    ) -> None:
        self.features = features
        self.centroids_KD = centroids_KD
        self.frames_KFM = frames_KFM
        self.runs_K = runs_K
        self.deduplicate = deduplicate
        self.size = len(centroids_KD)
        digest = hashlib.sha256(json.dumps([features.fingerprint, deduplicate]).encode())
        digest.update(centroids_KD.tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def encode(
        self, waves: Sequence[np.ndarray], rate: int, names: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """Units of recordings of one rate, int32 [U] each: U = ceil(seconds x 25), or fewer where
        runs are deduplicated.

        Args:
            waves: float [n] each, of any loudness.
            rate: samples a second.
            names: what errors call them; by default their numbers.

        Raises:
            ValueError: a recording is empty, silent or not finite; with its name.
        """
        names = names or [f"recording {number}" for number in range(len(waves))]
        named = zip(names, waves, strict=True)
        every = [self.every_unit(Recording(name, wave, rate)) for name, wave in named]
        return [deduplicated(units_U) for units_U in every] if self.deduplicate else every

    def every_unit(self, recording: Recording) -> np.ndarray:
        """Units of a recording, repetitions included: int32 [U]."""
        return nearest(self.features(unit_wave(recording)), self.centroids_KD)

    def decode(self, units_U: np.ndarray) -> tuple[np.ndarray, int]:
        """Sound of units: each unit's log-mel frames, phases by Griffin and Lim (1984).

        Where runs are deduplicated, each unit sounds as long as its runs are on average.

        Returns:
            float32 samples in [-1, 1], and their rate.

        Raises:
            ValueError: there are no units, or some are not 0 .. K - 1.
        """
        units_U = np.asarray(units_U)
        if not len(units_U) or units_U.min() < 0 or units_U.max() >= self.size:
            raise ValueError(f"give speech units from 0 to {self.size - 1}, at least one")
        if self.deduplicate:
            units_U = np.repeat(units_U, np.maximum(1, self.runs_K[units_U].round()).astype(int))
        return self.sound(units_U), SAMPLE_RATE

    def sound(self, units_U: np.ndarray) -> np.ndarray:
        """Sound of units of 40 ms each, whether or not runs are deduplicated: float32 [640 U]."""
        with speech_extra():
            import librosa
        magnitude_BF = np.concatenate(self._magnitude_KBF[units_U], axis=1)
        # One frame more, as in the analysis: its last one is centred behind the last sample.
        wave_n = librosa.griffinlim(
            np.pad(magnitude_BF, ((0, 0), (0, 1)), mode="edge"),
            n_iter=GRIFFIN_LIM_STEPS,
            hop_length=HOP,
            win_length=WINDOW,
            n_fft=FFT,
            length=len(units_U) * SAMPLES_PER_UNIT,
            pad_mode="constant",
            random_state=0,
        )
        return (wave_n / max(1.0, np.abs(wave_n).max())).astype(np.float32)

    @cached_property
    def _magnitude_KBF(self) -> np.ndarray:
        """Spectra of every unit's frames, [K, FFT bins, 4]: solved once, looked up ever after."""
        with speech_extra():
            import librosa
        frames_NM = np.exp(self.frames_KFM.reshape(-1, BANDS))
        frames_NM[frames_NM <= FLOOR * 1.001] = 0  # what was cut off is silence, not hiss
        spectra_BN = librosa.feature.inverse.mel_to_stft(
            frames_NM.T, sr=SAMPLE_RATE, n_fft=FFT, power=1.0, norm=None
        )
        return spectra_BN.T.reshape(self.size, FRAMES_PER_UNIT, -1).transpose(0, 2, 1)

    def save(self, folder: str | Path) -> None:
        """Write ``units.npz`` and ``units.json``, which `load` and a configuration's path read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "units.npz",
            centroids=self.centroids_KD,
            frames=self.frames_KFM,
            runs=self.runs_K,
        )
        about = {
            "units": self.size,
            "features": self.features.settings,
            "features_fingerprint": self.features.fingerprint,
        }
        (folder / ABOUT).write_text(json.dumps(about, indent=2))

    @classmethod
    def load(cls, folder: str | Path, deduplicate: bool = False) -> SpeechTokenizer:
        """Units that `save` wrote.

        Raises:
            ValueError: there are none, or the features they were fitted on are not the same now.
        """
        about = _read_about(folder)
        with laid_out(Path(folder) / ABOUT):
            features, fingerprint = load_features(about["features"]), about["features_fingerprint"]
        if features.fingerprint != fingerprint:
            raise ValueError(
                f"the speech units at {str(folder)!r} were fitted on other features than "
                f"{about['features']} gives now: fit them again"
            )
        path = Path(folder) / "units.npz"
        try:
            with np.load(path) as saved:
                centroids, frames, runs = saved["centroids"], saved["frames"], saved["runs"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} holds no whole speech units: {error}") from error
        return cls(features, centroids, frames, runs, deduplicate)


def nearest(features_UD: np.ndarray, centroids_KD: np.ndarray) -> np.ndarray:
    """The nearest centroid of each unit by Euclidean distance, the first of equals: int32 [U]."""
    # |x - c|^2 without |x|^2, which is the same for every centroid.
    distance_UK = np.square(centroids_KD).sum(axis=1) - 2 * features_UD @ centroids_KD.T
    return distance_UK.argmin(axis=1).astype(np.int32)


def deduplicated(units_U: np.ndarray) -> np.ndarray:
    """Runs of equal units as one.

    Example:
        >>> deduplicated(np.array([7, 7, 2, 7])).tolist()
        [7, 2, 7]
    """
    return units_U[np.diff(units_U, prepend=-1) != 0]


def _read_about(folder: str | Path) -> dict[str, Any]:
    path = Path(folder) / ABOUT
    if not path.is_file():
        raise ValueError(f"no saved speech units at {str(folder)!r}: give their folder")
    with laid_out(path):
        about: dict[str, Any] = read_json(path)
        if not (isinstance(about["units"], int) and 1 <= about["units"] <= MOST_PLACES):
            raise ValueError(
                f"{path}: units {shown(about['units'])} must be from 1 to {MOST_PLACES:,}"
            )
    return about
