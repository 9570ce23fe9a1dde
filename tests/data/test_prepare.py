"""What is prepared is found again by what it was made of, and by nothing less."""

from pathlib import Path

import pytest

from mot_lab.data.prepare import DataConfig, prepare
from mot_lab.data.scenes import ScenesConfig
from mot_lab.tokens.image import ImageTokenizerConfig
from mot_lab.tokens.text import TextTokenizerConfig, fit_text_tokenizer


def test_another_tokenizer_in_the_same_file_makes_another_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "tokenizer.json"
    fit_text_tokenizer(["a configuration is read with its tokenizer"], 300, ["image"]).save(file)
    config = DataConfig(
        ScenesConfig(emojis=8, unseen_concepts=2, canvas=8),
        TextTokenizerConfig(path=str(file)),
        ImageTokenizerConfig("pixels"),
        patch=4,
        train_scenes=8,
        eval_scenes=4,
        rows=4,
        val_rows=8,
    )
    tokens = {}
    for text in ("red cat on a mat", "blue fish and a star"):
        fit_text_tokenizer([text] * 10, 300, ["image"]).save(file)
        data = prepare(config)
        pool = data.pool("train")
        assert data == prepare(config) and pool is prepare(config).pool("train")
        captions = data.source.captions(data.source.scene("train", config.seed, 0))
        assert data.texts.decode(pool.caption(0, 0.0)) == captions[0]
        tokens[text] = pool.caption(0, 0.0).tolist()
    one, other = tokens.values()
    assert one != other
    assert len(list((tmp_path / "cache").glob("captions-*"))) == 2
    assert len(list((tmp_path / "cache").glob("pictures-*"))) == 1  # which no words change
