"""Spoken captions: the same sound for the same words, and one that the speaker changes."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mot_lab.data.espeak import RATE, Speaker, require_voices, speak, speakers

WORDS = "a red heart on yellow"
PLAIN = Speaker("en-us", 160, 50)


def digest(wave_n: np.ndarray) -> str:
    return hashlib.sha256(wave_n.tobytes()).hexdigest()


def test_same_words_same_samples_whatever_was_said_before() -> None:
    # Whisper and croak are made with random numbers, the plain voice with a tremor that runs on.
    voices = [PLAIN, Speaker("en-us+whisper", 160, 50), Speaker("en-gb-x-rp+croak", 140, 70)]
    first = [digest(speak(WORDS, each)) for each in voices]
    speak("something quite different, in between", Speaker("en-us+f3", 220, 20))
    again = [digest(speak(WORDS, each)) for each in reversed(voices)]
    assert again[::-1] == first
    assert len(set(first)) == 3


def test_same_samples_in_another_process() -> None:
    code = (
        "import sys; from mot_lab.data.espeak import *; import hashlib;"
        "speak('warm up', Speaker('en-us+whisper', 99, 9));"
        f"print(hashlib.sha256(speak({WORDS!r}, Speaker('en-us', 160, 50)).tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(speak(WORDS, PLAIN))


def test_samples_are_sound_of_plausible_length_and_strength() -> None:
    wave_n = speak(WORDS, PLAIN)
    assert wave_n.dtype == np.float32
    assert 0.8 < len(wave_n) / RATE < 3
    assert 0.1 < np.abs(wave_n).max() <= 1


def test_speed_shortens_and_pitch_raises() -> None:
    slow, fast = (speak(WORDS, Speaker("en-us", speed, 50)) for speed in (100, 250))
    assert len(slow) > 1.8 * len(fast)
    low, high = (pitch_of(speak(WORDS, Speaker("en-us", 160, pitch))) for pitch in (10, 90))
    assert high > 1.4 * low


def pitch_of(wave_n: np.ndarray) -> float:
    """Median over loud frames of the strongest autocorrelation between 60 and 400 Hz, in Hz."""
    lags = np.arange(RATE // 400, RATE // 60)
    frames = [wave_n[at : at + 2048] for at in range(0, len(wave_n) - 4096, 1024)]
    loud = [frame for frame in frames if np.square(frame).mean() > 0.002]
    correlations = [np.correlate(frame, frame, "full")[len(frame) - 1 :] for frame in loud]
    return float(np.median([RATE / lags[each[lags].argmax()] for each in correlations]))


def test_speakers_are_every_combination() -> None:
    found = speakers(["en-us", "en-us+f2"], [140, 160, 180], [30, 60])
    assert len(found) == len(set(found)) == 12
    assert found[0] == Speaker("en-us", 140, 30)


def test_wrong_speakers_are_refused() -> None:
    with pytest.raises(ValueError, match="speeds has 20, must be from 80 to 450"):
        speakers(["en-us"], [20], [50])
    with pytest.raises(ValueError, match="pitches has 100"):
        speakers(["en-us"], [160], [100])
    with pytest.raises(ValueError, match="voices is empty"):
        speakers([], [160], [50])
    with pytest.raises(ValueError, match="no voice 'klingonese'"):
        require_voices(["en-us", "klingonese"])
    with pytest.raises(ValueError, match=r"no variant 'f99', only .*f1, f2"):
        require_voices(["en-us+f99"])


def test_nothing_to_say_is_refused() -> None:
    with pytest.raises(ValueError, match="says nothing for ''"):
        speak("", PLAIN)


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ValueError, match=r"espeakng_loader: pip install 'mot-lab\[speech\]'"):
        speak(WORDS, PLAIN)
