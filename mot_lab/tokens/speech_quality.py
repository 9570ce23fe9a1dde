"""How good speech units are: what quantising loses, how they are used, whether they can be heard.

Shapes: R recordings, U units of one, K units there are, D features, F log-mel frames of M bands.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from mot_lab.tokens.speech import SpeechTokenizer, deduplicated, nearest
from mot_lab.tokens.speech_features import (
    BANDS,
    SAMPLE_RATE,
    UNIT_RATE,
    Recording,
    log_mel,
    speech_extra,
    unit_wave,
)


def speech_quality(tokenizer: SpeechTokenizer, recordings: Sequence[Recording]) -> dict[str, Any]:
    """Figures of a tokenizer, to be measured on recordings that it was not fitted on.

    Returns:
        ``quantisation``: squared distance to the centroid over the variance of the features;
        ``units_used``, ``perplexity``: of the units' distribution, K at most;
        ``units_per_second``, ``deduplicated_per_second``;
        ``same_units``: share of units that come out again when the decoded sound is encoded;
        ``retrieved``: share of recordings whose decoded sound is nearest, by dynamic time warping
        over log-mels, to the recording itself among all; by chance it would be 1 / ``n``;
        ``n``: recordings.
    """
    waves = [unit_wave(recording) for recording in recordings]
    features = [tokenizer.features(wave_n) for wave_n in waves]
    units = [nearest(each_UD, tokenizer.centroids_KD) for each_UD in features]
    features_ND, units_N = np.concatenate(features), np.concatenate(units)
    errors_N = np.square(features_ND - tokenizer.centroids_KD[units_N]).sum(axis=1)
    spread_N = np.square(features_ND - features_ND.mean(axis=0)).sum(axis=1)
    counts_K = np.bincount(units_N, minlength=tokenizer.size)
    shares = counts_K[counts_K > 0] / len(units_N)
    decoded = [
        Recording(f"decoded {recording.name}", tokenizer.sound(each_U), SAMPLE_RATE)
        for recording, each_U in zip(recordings, units, strict=True)
    ]
    again = [tokenizer.every_unit(each) for each in decoded]
    runs = sum(len(deduplicated(each_U)) for each_U in units)
    return {
        "quantisation": float(errors_N.sum() / spread_N.sum()),
        "units_used": int((counts_K > 0).sum()),
        "perplexity": float(np.exp(-(shares * np.log(shares)).sum())),
        "units_per_second": UNIT_RATE,
        "deduplicated_per_second": UNIT_RATE * runs / len(units_N),
        "same_units": float(np.mean(np.concatenate(again) == units_N)),
        "retrieved": _retrieved([unit_wave(each) for each in decoded], waves),
        "n": len(recordings),
    }


def _retrieved(decoded: Sequence[np.ndarray], originals: Sequence[np.ndarray]) -> float:
    queries, candidates = ([_frames(each) for each in waves] for waves in (decoded, originals))
    distance_RR = np.array([[warped_distance(q, c) for c in candidates] for q in queries])
    return float(np.mean(distance_RR.argmin(axis=1) == np.arange(len(decoded))))


def _frames(wave_n: np.ndarray) -> np.ndarray:
    """Every other log-mel frame, without the recording's own mean: [F, M]."""
    frames_FM = log_mel(wave_n).reshape(-1, BANDS)[::2]
    return frames_FM - frames_FM.mean(axis=0)


def warped_distance(one_FM: np.ndarray, other_FM: np.ndarray) -> float:
    """Mean distance of two sequences along the path that aligns them best."""
    with speech_extra():
        import librosa
    total_FF, path = librosa.sequence.dtw(C=cdist(one_FM, other_FM))
    return float(total_FF[-1, -1] / len(path))
