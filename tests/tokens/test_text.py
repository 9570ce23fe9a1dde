"""The text tokenizer: exact round trips, special tokens only by id, a cache that is used."""

import pickle
import random

import pytest

from mot_lab.tokens.text import (
    TextTokenizer,
    TextTokenizerConfig,
    fit_text_tokenizer,
    load_text_tokenizer,
    special_tokens,
)

OTHERS = ("image", "speech")
TEXTS = ["a red heart on yellow", "a fish left of a red heart", "To be, or not to be: that is"] * 5
AWKWARD = [
    "",
    " ",
    "  two  spaces \r\n\ttab\x00",
    "a <bos> b <pad><end_image>",
    "naïve — 🙂 👩🏽‍🚒 \u202e \ufffd \U0010ffff",
    "e\u0301 is not \u00e9",
]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return fit_text_tokenizer(TEXTS, 300, OTHERS)


@pytest.mark.parametrize("text", AWKWARD)
def test_round_trip_is_exact(tokenizer: TextTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_round_trip_of_random_unicode(tokenizer: TextTokenizer) -> None:
    draw = random.Random(0)
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    texts = ["".join(chr(p) for p in draw.choices(points, k=20)) for _ in range(200)]
    encoded = tokenizer.encode_batch(texts)
    assert encoded == [tokenizer.encode(text) for text in texts]
    assert [tokenizer.decode(ids) for ids in encoded] == texts


def test_special_ids(tokenizer: TextTokenizer) -> None:
    ids = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id]
    ids += [each(name) for name in OTHERS for each in (tokenizer.begin_id, tokenizer.end_id)]
    assert ids == [0, 1, 2, 3, 4, 5, 6]
    names = special_tokens(OTHERS)
    assert names[3:] == ("<begin_image>", "<end_image>", "<begin_speech>", "<end_speech>")
    assert not set(ids) & set(tokenizer.encode("".join(names)))
    assert tokenizer.vocab_size == 300
    assert len(tokenizer.encode("a red heart")) < len("a red heart")


def test_decode_skips_special_tokens(tokenizer: TextTokenizer) -> None:
    ids = [tokenizer.bos_id, *tokenizer.encode("red <eos>"), tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode(ids) == "red <eos>"


def test_pickled_and_saved_copies_encode_alike(tokenizer: TextTokenizer, tmp_path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    for copy in (
        pickle.loads(pickle.dumps(tokenizer)),
        TextTokenizer.load(tmp_path / "tokenizer.json", OTHERS),
    ):
        assert copy.encode_batch(AWKWARD) == tokenizer.encode_batch(AWKWARD)


def test_fit_is_cached(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path))
    calls = []

    def texts() -> list[str]:
        calls.append(1)
        return TEXTS

    config = TextTokenizerConfig(vocab_size=280)
    first, second = (load_text_tokenizer(config, OTHERS, texts, "texts") for _ in range(2))
    assert len(calls) == 1
    assert first.encode(TEXTS[0]) == second.encode(TEXTS[0])
    load_text_tokenizer(config, OTHERS, texts, "other texts")
    assert len(calls) == 2
    load_text_tokenizer(config, ("image",), texts, "texts")
    assert len(calls) == 3


def test_a_path_is_used_as_it_is(tokenizer: TextTokenizer, tmp_path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    config = TextTokenizerConfig(path=str(path))
    assert config.vocabulary(OTHERS) == 300
    assert TextTokenizerConfig(vocab_size=700).vocabulary(OTHERS) == 700
    loaded = load_text_tokenizer(
        config, OTHERS, lambda: pytest.fail("fitted although a path is given"), ""
    )
    assert loaded.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_errors(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"vocab_size 262 .* at least 263"):
        fit_text_tokenizer(TEXTS, 262, OTHERS)
    with pytest.raises(ValueError, match=r"no text tokenizer at .*absent\.json"):
        TextTokenizer.load(tmp_path / "absent.json", OTHERS)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ValueError, match=r"broken\.json"):
        TextTokenizer.load(tmp_path / "broken.json", OTHERS)
