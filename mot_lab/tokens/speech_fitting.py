"""Speech units fitted on recordings, found in the cache, or loaded.

Shapes: N units of all recordings, U of one, K units there are, D features, 4 frames of M log-mels.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from rich.progress import track
from sklearn.cluster import MiniBatchKMeans

from mot_lab.runtime.cache import cached
from mot_lab.tokens.speech import (
    SpeechTokenizer,
    SpeechTokenizerConfig,
    deduplicated,
    nearest,
)
from mot_lab.tokens.speech_features import (
    FLOOR,
    LogMelFeatures,
    Recording,
    SpeechFeatures,
    log_mel,
    unit_wave,
)
from mot_lab.tokens.speech_hubert import HubertFeatures

FIT_VERSION = 1  # raised whenever the same recordings would give other units
FIT_SEED = 0


def fit_speech_tokenizer(
    config: SpeechTokenizerConfig, recordings: Iterable[Recording]
) -> SpeechTokenizer:
    """Units by mini-batch k-means over the features of the first recordings.

    Raises:
        ValueError: they have fewer units of sound than ``config.units``.
    """
    features = _features(config)
    first = itertools.islice(recordings, config.fit_recordings)
    described, frames = [], []
    for recording in track(first, "listening to recordings", total=config.fit_recordings):
        wave_n = unit_wave(recording)
        described.append(features(wave_n))
        frames.append(log_mel(wave_n))
    if sum(map(len, described)) < config.units:
        raise ValueError(
            f"{len(described)} recordings hold {sum(map(len, described))} units of 40 ms, too few "
            f"to fit {config.units}: give more of them or fewer units"
        )
    features_ND = np.concatenate(described)
    clusters = MiniBatchKMeans(
        config.units, batch_size=4096, n_init=3, random_state=FIT_SEED, max_iter=100
    )
    centroids_KD = clusters.fit(features_ND).cluster_centers_.astype(np.float32)
    assigned = [nearest(each, centroids_KD) for each in described]
    frames_KFM = _mean_frames(np.concatenate(frames), np.concatenate(assigned), config.units)
    runs_K = _mean_runs(assigned, config.units)
    return SpeechTokenizer(features, centroids_KD, frames_KFM, runs_K, config.deduplicate)


def _mean_frames(frames_NFM: np.ndarray, assigned_N: np.ndarray, units: int) -> np.ndarray:
    """Mean log-mel frames of each unit; a unit that never occurred is silent."""
    counts_K = np.bincount(assigned_N, minlength=units)
    sums_KFM = np.zeros((units, *frames_NFM.shape[1:]))
    np.add.at(sums_KFM, assigned_N, frames_NFM)
    means_KFM = sums_KFM / np.maximum(counts_K, 1)[:, None, None]
    means_KFM[counts_K == 0] = np.log(FLOOR)
    return means_KFM.astype(np.float32)


def _mean_runs(assigned: list[np.ndarray], units: int) -> np.ndarray:
    """How many times each unit comes in a row, on average; 1 where it never occurred."""
    every_K = np.bincount(np.concatenate(assigned), minlength=units)
    runs = np.concatenate([deduplicated(units_U) for units_U in assigned])
    return every_K.clip(1) / np.bincount(runs, minlength=units).clip(1)


def load_speech_tokenizer(
    config: SpeechTokenizerConfig, recordings: Callable[[], Iterable[Recording]], key: Any
) -> SpeechTokenizer:
    """The tokenizer of a config: the saved one at ``config.path``, or one fitted and cached.

    Args:
        recordings: gives those of training; called only when there is something to fit.
        key: what determines the recordings (JSON or dataclasses), for the cache.
    """
    if config.path is not None and config.saved:
        return SpeechTokenizer.load(config.path, config.deduplicate)
    determinants: dict[str, Any] = {
        "version": FIT_VERSION,
        "features": _features(config).fingerprint,
        "units": config.units,
        "first": config.fit_recordings,
        "recordings": key,
    }
    folder = cached(
        "speech-units",
        determinants,
        lambda out: fit_speech_tokenizer(config, recordings()).save(out),
    )
    return SpeechTokenizer.load(folder, config.deduplicate)


def _features(config: SpeechTokenizerConfig) -> SpeechFeatures:
    if config.features == "log_mel":
        return LogMelFeatures()
    assert config.path is not None
    return HubertFeatures(config.path, config.layer)
