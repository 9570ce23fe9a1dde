"""Made-up voices: vowels of gliding pitch between pauses, so that no synthesiser is needed."""

import numpy as np

from mot_lab.tokens.speech_features import Recording

# First three formants in Hz of ten English vowels (Peterson and Barney 1952, men).
VOWELS = np.array(
    [
        (270, 2290, 3010),
        (390, 1990, 2550),
        (530, 1840, 2480),
        (660, 1720, 2410),
        (730, 1090, 2440),
        (570, 840, 2410),
        (440, 1020, 2240),
        (300, 870, 2240),
        (640, 1190, 2390),
        (490, 1350, 1690),
    ]
)


def babble(seed: int, vowels: int = 6, rate: int = 16_000) -> np.ndarray:
    """Vowels of 0.15 s each, float32 [n]: the same sound at every rate above 8 kHz."""
    rng = np.random.default_rng(seed)
    pitch = rng.uniform(90, 220)
    parts = []
    for formants in VOWELS[rng.integers(len(VOWELS), size=vowels)]:
        seconds_n = np.arange(round(0.15 * rate)) / rate
        harmonics = pitch * np.arange(1, int(3800 / pitch))
        gains = sum(1 / (1 + ((harmonics - f) / 90) ** 2) for f in formants)
        phases = 2 * np.pi * harmonics[:, None] * seconds_n * (1 + 0.05 * seconds_n)
        envelope = np.sin(np.pi * seconds_n / 0.15) ** 0.5
        parts.append((gains[:, None] * np.sin(phases)).sum(axis=0) * envelope)
        pitch *= rng.uniform(0.95, 1.05)
    wave = np.concatenate(parts)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def babblers(count: int, seed: int = 0) -> list[Recording]:
    """Recordings of them."""
    return [Recording(f"babble {seed + i}", babble(seed + i), 16_000) for i in range(count)]
