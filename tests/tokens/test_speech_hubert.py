"""Units over the hidden states of a (tiny, untrained) HuBERT model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
from voices import babble, babblers

from mot_lab.tokens.speech import SpeechTokenizer, SpeechTokenizerConfig
from mot_lab.tokens.speech_features import HubertFeatures, unit_wave
from mot_lab.tokens.speech_fitting import fit_speech_tokenizer, load_speech_tokenizer


def save_hubert(folder: Path, strides: tuple[int, ...], normalise: bool | None) -> str:
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=[16] * len(strides),
        conv_stride=list(strides),
        conv_kernel=[stride + 5 for stride in strides],
        num_feat_extract_layers=len(strides),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    HubertModel(config).save_pretrained(folder)
    if normalise is not None:
        Wav2Vec2FeatureExtractor(do_normalize=normalise).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A frame every 320 samples, two a unit, as in HuBERT base."""
    return save_hubert(tmp_path_factory.mktemp("hubert"), (5, 8, 8), True)


def test_features_are_the_layers_mean_over_40_ms(path: str) -> None:
    wave_n = unit_wave(babblers(1)[0])
    model = HubertModel.from_pretrained(path).eval()
    normal = torch.from_numpy(wave_n).double()
    normal = ((normal - normal.mean()) / (normal.var(correction=0) + 1e-7).sqrt()).float()
    # What the last frame looks ahead: silence.
    looked = torch.nn.functional.pad(normal, (0, 10 - 5 + 5 * (13 - 8) + 40 * (13 - 8)))
    with torch.no_grad():
        states = model(looked[None], output_hidden_states=True).hidden_states
    for layer in (0, 2, 3):
        features_UD = HubertFeatures(path, layer)(wave_n)
        assert features_UD.shape == (len(wave_n) // 640, 32)
        slow = [
            (states[layer][0, 2 * u] + states[layer][0, 2 * u + 1]).numpy() / 2
            for u in range(len(features_UD))
        ]
        np.testing.assert_allclose(features_UD, slow, atol=1e-4)


@pytest.mark.parametrize(("strides", "frames"), [((5, 8, 8), 2), ((10, 8, 8), 1), ((5, 4, 8), 4)])
def test_every_rate_that_divides_a_unit(
    tmp_path: Path, strides: tuple[int, ...], frames: int
) -> None:
    features = HubertFeatures(save_hubert(tmp_path, strides, None), 1)
    assert 640 // features.stride == frames
    for samples in (1, 640, 3 * 640 - 1, 30 * 640):
        wave_n = np.sin(np.arange(-(-samples // 640) * 640) / 9).astype(np.float32)
        assert len(features(wave_n)) == len(wave_n) // 640


def test_units_are_fitted_saved_and_heard(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
    config = SpeechTokenizerConfig(features="hubert", path=path, layer=2, units=12)
    assert config.vocabulary() == 12
    tokenizer = fit_speech_tokenizer(config, babblers(10))
    again = load_speech_tokenizer(config, lambda: babblers(10), "key")
    assert again.fingerprint == tokenizer.fingerprint
    waves = [babble(70, 3), babble(71, 8)]
    units = tokenizer.encode(waves, 16_000)
    assert [len(each) for each in units] == [12, 30]
    assert (again.encode(waves[1:], 16_000)[0] == units[1]).all()
    wave_n, rate = tokenizer.decode(units[1])
    assert (len(wave_n), rate) == (640 * 30, 16_000) and np.abs(wave_n).max() > 0.05
    tokenizer.save(tmp_path / "units")
    saved = SpeechTokenizerConfig(features="hubert", path=str(tmp_path / "units"), units=99)
    assert saved.saved and saved.vocabulary() == 12
    loaded = SpeechTokenizer.load(tmp_path / "units")
    assert (loaded.encode(waves, 16_000)[1] == units[1]).all()


def test_layer_and_normalisation_tell_units_apart(path: str, tmp_path: Path) -> None:
    unnormalised = save_hubert(tmp_path, (5, 8, 8), False)
    prints = {
        HubertFeatures(path, 1).fingerprint,
        HubertFeatures(path, 2).fingerprint,
        HubertFeatures(unnormalised, 2).fingerprint,
    }
    assert len(prints) == 3


def test_wrong_models_are_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer 4 of .* must be 0 to 3"):
        HubertFeatures(path, 4)
    with pytest.raises(ValueError, match="no HubertModel at"):
        HubertFeatures(str(tmp_path / "nowhere"), 1)
    with pytest.raises(ValueError, match="a frame every 300 samples, which does not divide"):
        HubertFeatures(save_hubert(tmp_path, (5, 6, 10), None), 1)
