"""Units over the hidden states of a (tiny, untrained) HuBERT model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    HubertConfig,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)
from voices import babble, babblers

from mot_lab.tokens.speech import SpeechTokenizer, SpeechTokenizerConfig
from mot_lab.tokens.speech_features import unit_wave
from mot_lab.tokens.speech_fitting import fit_speech_tokenizer, load_speech_tokenizer
from mot_lab.tokens.speech_hubert import HubertFeatures


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
    with pytest.raises(ValueError, match="no whole HubertModel at"):
        HubertFeatures(str(tmp_path / "nowhere"), 1)
    with pytest.raises(ValueError, match="a frame every 300 samples, which does not divide"):
        HubertFeatures(save_hubert(tmp_path, (5, 6, 10), None), 1)


def tiny_ctc(path: str) -> HubertForCTC:
    """A fine-tuned model around the fixture's, with a head on top."""
    config = HubertConfig.from_pretrained(path, vocab_size=9)
    model = HubertForCTC(config)
    model.hubert.load_state_dict(HubertModel.from_pretrained(path).state_dict())
    return model


def test_every_format_that_is_released(path: str, tmp_path: Path) -> None:
    """Pickled weights with the names of older weight norms (facebook's), with a head on top, and
    without the mask of training: the same features and the same fingerprint.
    """
    model = HubertModel.from_pretrained(path)
    weights = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): weight
        for name, weight in model.state_dict().items()
    }
    assert set(weights) - set(model.state_dict())  # renamed indeed
    model.config.save_pretrained(tmp_path / "pickled")
    torch.save(weights, tmp_path / "pickled" / "pytorch_model.bin")
    tiny_ctc(path).save_pretrained(tmp_path / "head")
    expected = HubertFeatures(path, 2)
    wave_n = unit_wave(babblers(1)[0])
    for folder in ("pickled", "head"):
        features = HubertFeatures(str(tmp_path / folder), 2)
        assert np.array_equal(features(wave_n), expected(wave_n))
        assert features.fingerprint == expected.fingerprint
    without(path, tmp_path / "unmasked", "masked_spec_embed")
    prints = {HubertFeatures(str(tmp_path / "unmasked"), 2).fingerprint for _ in range(2)}
    assert len(prints) == 1
    unmasked = HubertFeatures(str(tmp_path / "unmasked"), 2)
    assert np.array_equal(unmasked(wave_n), expected(wave_n))


def test_half_precision_is_computed_in_full(path: str, tmp_path: Path) -> None:
    wave_n = unit_wave(babblers(1)[0])
    for dtype in (torch.float16, torch.bfloat16):
        half = HubertModel.from_pretrained(path).to(dtype)
        half.save_pretrained(tmp_path)
        half.float().save_pretrained(tmp_path / "full")
        features, expected = (
            HubertFeatures(str(each), 2) for each in (tmp_path, tmp_path / "full")
        )
        assert features(wave_n).dtype == np.float32
        assert np.array_equal(features(wave_n), expected(wave_n))


def without(path: str, folder: Path, name: str) -> None:
    """A copy of a folder with one weight less."""
    HubertConfig.from_pretrained(path).save_pretrained(folder)
    weights = load_file(Path(path) / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_and_other_models_are_refused(path: str, tmp_path: Path) -> None:
    without(path, tmp_path / "part", "encoder.layers.1.attention.k_proj.weight")
    with pytest.raises(ValueError, match="1 weights are missing, like encoder"):
        HubertFeatures(str(tmp_path / "part"), 1)
    config = HubertConfig.from_pretrained(path).to_dict()
    del config["model_type"]
    Wav2Vec2Model(Wav2Vec2Config(**config)).save_pretrained(tmp_path / "wav2vec2")
    with pytest.raises(ValueError, match=r"no whole HubertModel at .*: it is wav2vec2"):
        HubertFeatures(str(tmp_path / "wav2vec2"), 1)
