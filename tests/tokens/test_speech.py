"""Speech units: as many as there are 40 ms, the nearest centroids, sound that comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import numpy as np
import pytest
from voices import babble, babblers

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
    log_mel,
    loudness,
    unit_wave,
)
from mot_lab.tokens.speech_fitting import fit_speech_tokenizer, load_speech_tokenizer
from mot_lab.tokens.speech_quality import speech_quality, warped_distance

CONFIG = SpeechTokenizerConfig(units=24, fit_recordings=30)


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    return fit_speech_tokenizer(CONFIG, babblers(30))


def test_log_mel_equals_fourier_sums_written_out() -> None:
    wave_n = unit_wave(babblers(1)[0])[: 640 * 4]
    padded = np.pad(wave_n.astype(np.float64), 256)
    # A Hann window of 400 samples in the middle of 512, and every Fourier sum by itself.
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=80, norm=None)
    slow = []
    for frame in range(16):
        spectrum = np.abs(turns @ (padded[160 * frame : 160 * frame + 512] * window))
        slow.append(np.log(np.maximum(filters @ spectrum, FLOOR)))
    np.testing.assert_allclose(log_mel(wave_n), np.reshape(slow, (4, 4, 80)), atol=2e-3)


@pytest.mark.parametrize(
    ("samples", "rate", "units"),
    [(1, 16_000, 1), (640, 16_000, 1), (641, 16_000, 2), (22_050, 22_050, 25), (9_999, 8_000, 32)],
)
def test_a_unit_for_every_40_ms(
    tokenizer: SpeechTokenizer, samples: int, rate: int, units: int
) -> None:
    (units_U,) = tokenizer.encode([np.ones(samples, np.float32)], rate)
    assert units_U.shape == (units,) and units_U.dtype == np.int32


def test_units_are_the_nearest_centroids(tokenizer: SpeechTokenizer) -> None:
    recording = babblers(1, seed=50)[0]
    features_UD = LogMelFeatures()(unit_wave(recording))
    slow = [
        min(range(24), key=lambda k: float(((x - tokenizer.centroids_KD[k]) ** 2).sum()))
        for x in features_UD
    ]
    (units_U,) = tokenizer.encode([recording.wave_n], recording.rate)
    assert units_U.tolist() == slow
    assert len(set(slow)) > 5


def test_of_equally_near_centroids_the_first_is_taken() -> None:
    assert nearest(np.zeros((1, 2)), np.array([[0, 2], [1, 0], [0, 1.0]])).tolist() == [1]


def test_loudness_does_not_matter_and_the_rate_hardly(tokenizer: SpeechTokenizer) -> None:
    wave_n = babble(60)
    (plain, quiet) = tokenizer.encode([wave_n, wave_n / 16], 16_000)
    assert (plain == quiet).all()
    for rate in (22_050, 44_100):
        (other,) = tokenizer.encode([babble(60, rate=rate)], rate)
        assert len(other) == len(plain) and (other == plain).mean() > 0.7


def test_pauses_do_not_change_the_loudness_and_decoded_sound_keeps_it(
    tokenizer: SpeechTokenizer,
) -> None:
    wave_n = unit_wave(babblers(1, seed=64)[0])
    assert loudness(wave_n) == pytest.approx(0.5, rel=1e-5)
    assert loudness(3 * wave_n) == pytest.approx(1.5, rel=1e-5)
    paused = np.concatenate([np.zeros(6400, np.float32), wave_n, np.zeros(9600, np.float32)])
    assert loudness(paused) == pytest.approx(0.5, rel=0.03)
    # Decoding averages within units, which lowers the root mean square more than the loudness.
    originals = [unit_wave(each) for each in babblers(8)]
    decoded = [
        tokenizer.decode(tokenizer.every_unit(Recording("x", wave_n, 16_000)))[0]
        for wave_n in originals
    ]

    def kept(measure: Callable[[np.ndarray], float]) -> float:
        pairs = zip(decoded, originals, strict=True)
        return float(np.exp(np.mean([np.log(measure(d) / measure(o)) for d, o in pairs])))

    assert 0.88 < kept(loudness) < 1.05
    assert kept(lambda wave_n: float(np.sqrt(np.square(wave_n).mean()))) < kept(loudness) - 0.05


def test_a_recording_alone_and_among_others(tokenizer: SpeechTokenizer) -> None:
    waves = [babble(seed, vowels) for seed, vowels in ((1, 3), (2, 9), (3, 5))]
    together = tokenizer.encode(waves, 16_000)
    for wave_n, units_U in zip(waves, together, strict=True):
        assert (tokenizer.encode([wave_n], 16_000)[0] == units_U).all()


def test_deduplication(tokenizer: SpeechTokenizer) -> None:
    wave_n = babble(61)
    (every,) = tokenizer.encode([wave_n], 16_000)
    short = SpeechTokenizer(
        tokenizer.features,
        tokenizer.centroids_KD,
        tokenizer.frames_KFM,
        tokenizer.runs_K,
        deduplicate=True,
    )
    (runs,) = short.encode([wave_n], 16_000)
    slow = [u for i, u in enumerate(every) if i == 0 or every[i - 1] != u]
    assert runs.tolist() == slow == deduplicated(every).tolist()
    assert len(runs) < len(every)
    assert short.fingerprint != tokenizer.fingerprint
    # Each unit sounds as long as its runs are on average.
    wave, rate = short.decode(np.array([3, 5]))
    expected = sum(max(1, round(float(tokenizer.runs_K[unit]))) for unit in (3, 5))
    assert (len(wave), rate) == (640 * expected, 16_000)


def test_mean_runs_and_frames_are_those_of_the_recordings(tokenizer: SpeechTokenizer) -> None:
    recordings = babblers(30)
    units = [tokenizer.every_unit(each) for each in recordings]
    frames = [log_mel(unit_wave(each)) for each in recordings]
    unit = int(np.bincount(np.concatenate(units)).argmax())
    own = [f[i] for f, u in zip(frames, units, strict=True) for i in range(len(u)) if u[i] == unit]
    np.testing.assert_allclose(tokenizer.frames_KFM[unit], np.mean(own, axis=0), atol=1e-4)
    text = "|".join("".join("x" if v == unit else "." for v in each) for each in units)
    runs = [run for run in text.replace("|", ".").split(".") if run]
    assert tokenizer.runs_K[unit] == pytest.approx(len(own) / len(runs))


def test_decoded_sound_is_heard_as_the_same_units(tokenizer: SpeechTokenizer) -> None:
    (units_U,) = tokenizer.encode([babble(62, vowels=12)], 16_000)
    wave_n, rate = tokenizer.decode(units_U)
    assert rate == tokenizer.sample_rate == 16_000
    assert wave_n.dtype == np.float32 and len(wave_n) == 640 * len(units_U)
    assert 0.05 < np.abs(wave_n).max() <= 1
    (again,) = tokenizer.encode([wave_n], rate)
    assert (again == units_U).mean() > 0.6
    assert (tokenizer.decode(units_U)[0] == wave_n).all()


@pytest.mark.parametrize(
    ("wave", "what"),
    [
        (np.zeros(0, np.float32), r"\[0\], not one channel"),
        (np.zeros((2, 100), np.float32), r"\[2, 100\], not one channel"),
        (np.zeros(100, np.float32), "silent"),
        (np.full(100, np.nan, np.float32), "not finite"),
        (np.full(100, np.inf, np.float32), "not finite"),
    ],
)
def test_what_is_no_sound_is_refused_by_name(
    tokenizer: SpeechTokenizer, wave: np.ndarray, what: str
) -> None:
    with pytest.raises(ValueError, match=f"recording 1: .*{what}"):
        tokenizer.encode([babble(1), wave], 16_000)
    with pytest.raises(ValueError, match=f"caption.ogg: .*{what}"):
        tokenizer.encode([wave], 16_000, names=["caption.ogg"])


@pytest.mark.parametrize("units", [[], [24], [-1, 3]])
def test_units_that_are_none_are_refused(tokenizer: SpeechTokenizer, units: list[int]) -> None:
    with pytest.raises(ValueError, match="speech units from 0 to 23"):
        tokenizer.decode(np.array(units, np.int32))


def test_saved_and_loaded(tokenizer: SpeechTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "units")
    config = SpeechTokenizerConfig(units=999, path=str(tmp_path / "units"))
    assert config.vocabulary() == 24

    def none() -> Iterator[Recording]:
        raise AssertionError("nothing is to be fitted")

    loaded = load_speech_tokenizer(config, none, "key")
    assert loaded.fingerprint == tokenizer.fingerprint and loaded.size == 24
    wave_n = babble(63)
    (units_U,) = tokenizer.encode([wave_n], 16_000)
    assert (loaded.encode([wave_n], 16_000)[0] == units_U).all()
    assert (loaded.decode(units_U)[0] == tokenizer.decode(units_U)[0]).all()


def test_units_of_other_features_are_refused(tokenizer: SpeechTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    about = tmp_path / "units.json"
    about.write_text(about.read_text().replace(tokenizer.features.fingerprint, "0" * 16))
    with pytest.raises(ValueError, match="fitted on other features"):
        SpeechTokenizer.load(tmp_path)


def test_fitted_once_and_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path))
    heard = []

    def recordings() -> Iterator[Recording]:
        for each in babblers(8):
            heard.append(each.name)
            yield each

    config = SpeechTokenizerConfig(units=10, fit_recordings=5)
    first = load_speech_tokenizer(config, recordings, "key")
    assert heard == [f"babble {i}" for i in range(5)]
    assert load_speech_tokenizer(config, recordings, "key").fingerprint == first.fingerprint
    assert len(heard) == 5
    assert fit_speech_tokenizer(config, babblers(8)).fingerprint == first.fingerprint
    assert load_speech_tokenizer(config, recordings, "other").size == 10
    assert len(heard) == 10


def test_too_few_recordings_are_refused() -> None:
    with pytest.raises(ValueError, match="1 recordings hold 23 units of 40 ms, too few to fit 24"):
        fit_speech_tokenizer(CONFIG, babblers(1))


def test_wrong_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="speech features 'mfcc' are none of log_mel, hubert"):
        SpeechTokenizerConfig(features="mfcc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="units 0 must be at least 1"):
        SpeechTokenizerConfig(units=0)
    with pytest.raises(ValueError, match="'hubert' need the path"):
        SpeechTokenizerConfig(features="hubert")
    with pytest.raises(ValueError, match="no saved speech units at"):
        SpeechTokenizerConfig(path=str(tmp_path))


def test_quality_figures(tokenizer: SpeechTokenizer) -> None:
    held_out = babblers(6, seed=100)
    figures = speech_quality(tokenizer, held_out)
    units_N = np.concatenate([tokenizer.every_unit(each) for each in held_out])
    assert figures["units_used"] == len(set(units_N.tolist()))
    assert 1 < figures["perplexity"] <= figures["units_used"] <= 24
    assert 0 < figures["quantisation"] < 0.6
    assert figures["deduplicated_per_second"] < figures["units_per_second"] == 25
    assert figures["same_units"] > 0.9 and figures["retrieved"] > 0.8 and figures["n"] == 6
    # More units lose less.
    finer = fit_speech_tokenizer(SpeechTokenizerConfig(units=96), babblers(30))
    assert speech_quality(finer, held_out)["quantisation"] < figures["quantisation"]


def test_warping_forgives_speed() -> None:
    sequence_FM = np.random.default_rng(0).normal(size=(8, 3))
    assert warped_distance(sequence_FM, np.repeat(sequence_FM, 2, axis=0)) == pytest.approx(0)
    assert warped_distance(sequence_FM, sequence_FM[::-1]) > 0.5
