"""Text tokenizers of others, as released: ids and texts of `transformers`, special tokens added."""

import pickle
from pathlib import Path

import pytest
from tiny_studies import TINY_SCENES
from tokenizers import Tokenizer, models
from tokens.released_tokenizers import RELEASED, llama_2, save_released

from mot_lab.data.packing import Layout
from mot_lab.data.prepare import DataConfig
from mot_lab.parsing import from_dict
from mot_lab.tokens.text import TextTokenizer, TextTokenizerConfig, special_tokens

OTHERS = ("image", "speech")
SPECIAL = special_tokens(OTHERS)
SAID = [
    "a red heart on yellow",
    "A fish's 12345 hearts\r\n\tare  red",
    "naïve — 🙂 👩🏽‍🚒 \U0010ffff",
    "",
    " ",
    "  two  spaces ",
    "a <bos> b <pad><end_image> </s> <|eot_id|> [SEP]",
]


@pytest.mark.parametrize("make", RELEASED)
def test_ids_and_texts_are_those_of_transformers(make: str, tmp_path: Path) -> None:
    theirs = save_released(make, tmp_path)
    entries = len(theirs)
    ours = TextTokenizer.load(tmp_path, OTHERS)
    assert ours.kind == type(theirs.backend_tokenizer.model).__name__
    plain = SAID[:6]  # in the last one theirs reads special tokens
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in plain]
    assert ours.encode_batch(plain) == [ours.encode(text) for text in plain] == expected
    assert max(map(max, filter(None, expected))) > 10
    for ids in expected:
        decoded = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode([ours.bos_id, *ids, ours.eos_id, ours.pad_id]) == decoded
    added = [ours.ids()[token] for token in SPECIAL]
    assert added == list(range(entries, entries + len(SPECIAL)))
    assert [ours.pad_id, ours.end_id("speech")] == [added[0], added[-1]]
    assert ours.vocab_size == entries + len(SPECIAL)
    assert TextTokenizerConfig(path=str(tmp_path)).vocabulary(OTHERS) == ours.vocab_size
    assert TextTokenizerConfig(path=str(tmp_path)).vocabulary(()) == entries + 3


@pytest.mark.parametrize("make", RELEASED)
def test_no_text_makes_a_special_token(make: str, tmp_path: Path) -> None:
    theirs = save_released(make, tmp_path)
    ours = TextTokenizer.load(tmp_path / "tokenizer.json", OTHERS)
    named = [ours.ids()[token] for token in SPECIAL]
    added = {*named, *theirs.added_tokens_decoder} - {theirs.backend_tokenizer.token_to_id("<unk>")}
    added -= {theirs.backend_tokenizer.token_to_id("[UNK]")}  # what a lossy one has for a sign
    if make == "t5":  # a piece of T5's own vocabulary, of no meaning here
        added -= {theirs.backend_tokenizer.token_to_id("</s>")}
    assert not added & set(ours.encode(SAID[-1]))


@pytest.mark.parametrize("make", ["llama_2", "llama_3"])
def test_a_llamas_text_comes_back_exactly(make: str, tmp_path: Path) -> None:
    save_released(make, tmp_path)
    ours = TextTokenizer.load(tmp_path, OTHERS)
    for copy in (ours, pickle.loads(pickle.dumps(ours))):
        assert [copy.decode(copy.encode(text)) for text in SAID] == SAID
    ours.save(tmp_path / "own.json")
    again = TextTokenizer.load(tmp_path / "own.json", OTHERS)
    assert again.key() == ours.key() and again.vocab_size == ours.vocab_size


def test_signs_that_llama_2_has_not_are_bytes(tmp_path: Path) -> None:
    save_released("llama_2", tmp_path)
    ours = TextTokenizer.load(tmp_path, OTHERS)
    (blank,) = (place for entry, place in ours.ids().items() if entry == "▁")
    assert ours.encode("🙂") == [blank, *(3 + byte for byte in "🙂".encode())]


def test_llama_3_cuts_numbers_in_threes_and_takes_known_words_whole(tmp_path: Path) -> None:
    save_released("llama_3", tmp_path)
    ours = TextTokenizer.load(tmp_path, OTHERS)
    entry = {place: entry for entry, place in ours.ids().items()}
    for text, pieces in {
        " heart's 12345": ["Ġheart", "'", "s", "Ġ", "123", "4", "5"],
        "1123": ["1", "1", "2", "3"],
    }.items():
        assert [entry[place] for place in ours.encode(text)] == pieces


def test_special_tokens_that_are_there_keep_their_ids(tmp_path: Path) -> None:
    theirs = llama_2()
    theirs.add_special_tokens(["<begin_image>", "<pad>"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = TextTokenizer.load(tmp_path, ("image",))
    first = theirs.get_vocab_size()
    assert (ours.begin_id("image"), ours.pad_id) == (first - 2, first - 1)
    assert (ours.bos_id, ours.eos_id, ours.end_id("image")) == (first, first + 1, first + 2)


def test_a_study_with_llama_2s_tokenizer_as_released(tmp_path: Path) -> None:
    theirs = save_released("llama_2", tmp_path)
    config = from_dict(DataConfig, {**TINY_SCENES, "text": {"path": str(tmp_path)}})
    interface = config.interface()
    assert interface.text_vocabulary == len(theirs) + 5
    layout = Layout.of(TextTokenizer.load(tmp_path, ("image",)), 64, interface)
    assert layout.blocks["image"].begin == len(theirs) + 3


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    spelt = Tokenizer(models.Unigram([("<pad>", 0.0), ("a", -1.0), ("?", -9.0)], 2, False))
    spelt.save(str(tmp_path / "spelt.json"))
    twice = Tokenizer(models.WordLevel({"a": 0, "b": 3, "c": 3}, "a"))
    twice.save(str(tmp_path / "twice.json"))
    for path, said in {
        str(tmp_path / "absent.json"): "give the path of a tokenizer.json, of a folder",
        str(tmp_path / "empty"): "the folder has no tokenizer.json; AutoTokenizer.from_pretrained",
        str(tmp_path / "tokenizer.model"): "a sentencepiece or tiktoken model is none",
        str(tmp_path / "spelt.json"): "makes its special token <pad> of a text that says <pad>",
        str(tmp_path / "twice.json"): "gives two entries of its vocabulary the same id",
        "nobody/nothing": "no tokenizer.json of 'nobody/nothing' on the hub",
        "folder/tokenizer.json": "give the path of a tokenizer.json, of a folder",
    }.items():
        with pytest.raises(ValueError, match=said) as refused:
            TextTokenizerConfig(path=path).vocabulary(OTHERS)
        assert path in str(refused.value)
