"""Prose: passages of the right length, whole books held out, nothing retold across splits."""

import re

import pytest

from mot_lab.data.prose import ProseSource

SPLITS = ("train", "val", "test")


def test_passages_have_the_length_asked_for():
    for max_words in (40, 80, 120):
        for split in SPLITS:
            lengths = [len(text.split()) for text in ProseSource(max_words).passages(split)]
            assert min(lengths) >= 20 and max(lengths) <= max_words


def test_amounts_and_content():
    passages = {split: ProseSource().passages(split) for split in SPLITS}
    words = {split: sum(len(text.split()) for text in each) for split, each in passages.items()}
    assert words["train"] > 700_000 and words["val"] > 20_000 and words["test"] > 20_000
    assert passages["train"][0].startswith("In the beginning God created the heaven and the earth.")
    assert passages["val"][0].startswith("There was a man in the land of Uz, whose name was Job;")
    assert not [
        text for each in passages.values() for text in each if re.search(r"[\[\]\n\d]", text)
    ]
    assert passages["train"] == ProseSource().passages("train")


def test_held_out_books_are_not_retold_in_training():
    def runs(split, length=15):
        for text in ProseSource().passages(split):
            words = re.sub(r"[^a-z ]", "", text.lower()).split()
            yield from (tuple(words[i : i + length]) for i in range(len(words) - length + 1))

    trained = set(runs("train"))
    assert not trained & set(runs("val")) and not trained & set(runs("test"))
    assert not set(runs("val")) & set(runs("test"))


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="'unseen'"):
        ProseSource().passages("unseen")
    with pytest.raises(ValueError, match="max_words=10"):
        ProseSource(10)
