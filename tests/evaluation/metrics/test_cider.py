"""CIDEr against pycocoevalcap, with Java's tokenizer and without."""

import shutil

import pytest
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from evaluation.metrics import caption_tokens as module
from evaluation.metrics.caption_tokens import caption_words, ptb_tokenize, python_tokenize
from evaluation.metrics.cider import cider
from evaluation.metrics.cider import cider_scores as scores_of_words

REFERENCES = [
    ["A red heart at the top left on yellow.", "on yellow: a red heart, top left", "Red heart!"],
    ["a fish, left of a tram, on blue", "on blue, a fish and a tram"],
    ["the woman's well-known umbrella (open)", "an umbrella in the rain", "umbrella on green"],
    ["two cats don't sleep", "cats; awake"],
]
CANDIDATES = ["a red heart on yellow", "a fish on blue", "a moon", "two cats don't sleep"]
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")


def cider_scores(candidates, references, tokenizer=None):
    return scores_of_words(caption_words(candidates, references, tokenizer))


def of_pycocoevalcap(tokenize):
    wanted = {k: [{"caption": c} for c in real] for k, real in enumerate(REFERENCES)}
    given = {k: [{"caption": c}] for k, c in enumerate(CANDIDATES)}
    return Cider().compute_score(tokenize(wanted), tokenize(given))


@needs_java
def test_with_java_it_is_pycocoevalcap_with_its_own_tokenizer():
    value, scores = of_pycocoevalcap(PTBTokenizer().tokenize)
    assert value > 1  # the fixture says something
    assert cider_scores(CANDIDATES, REFERENCES) == pytest.approx(scores, abs=1e-9)
    metric = cider(CANDIDATES, REFERENCES)
    assert metric.value == pytest.approx(value, abs=1e-9)
    assert metric.extractor == "pycocoevalcap CIDEr, Stanford PTB tokenizer"


def test_without_java_it_says_which_tokenizer_it_used(monkeypatch):
    monkeypatch.setattr(module, "java_runs", lambda: False)
    value, _ = of_pycocoevalcap(
        lambda captions: {
            k: python_tokenize([c["caption"] for c in all_]) for k, all_ in captions.items()
        }
    )
    metric = cider(CANDIDATES, REFERENCES)
    assert metric.value == pytest.approx(value, abs=1e-9)
    assert metric.n == 4
    assert "plain Python tokenizer" in metric.extractor


def test_a_placeholder_named_java_is_no_java(monkeypatch, tmp_path):
    placeholder = tmp_path / "java"
    placeholder.write_text("#!/bin/sh\nexit 1\n")
    placeholder.chmod(0o755)
    monkeypatch.setattr(module.shutil, "which", lambda _: str(placeholder))
    assert module.java_runs.__wrapped__() is False
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    assert module.java_runs.__wrapped__() is False


@needs_java
def test_the_two_tokenizers_agree_on_captions_of_scenes_and_keep_their_lines():
    captions = ["A fish at the top left, on blue", "", "bottom: red heart\non  green.", "", ""]
    assert ptb_tokenize(captions) == python_tokenize(captions)
    assert ptb_tokenize(captions)[2] == "bottom red heart on green"
    assert len(ptb_tokenize(captions)) == 5
    assert ptb_tokenize(["", "", "a cat"]) == ["", "", "a cat"]


def test_ceiling_and_floor():
    metric = cider(CANDIDATES, REFERENCES, "python")
    assert metric.floor < metric.value and metric.floor < metric.ceiling
    # By hand: picture k holds out its reference number k (cyclically).
    held = [REFERENCES[0][0], REFERENCES[1][1], REFERENCES[2][2], REFERENCES[3][1]]
    rest = [[c for c in real if c != own] for own, real in zip(held, REFERENCES, strict=True)]
    assert metric.ceiling == pytest.approx(cider_scores(held, rest, "python").mean())


def test_perfect_captions_reach_the_top_and_empty_ones_score_nothing():
    lonely = [[real[0]] for real in REFERENCES]
    metric = cider([real[0] for real in REFERENCES[:3]] + [""], lonely, "python")
    scores = cider_scores([real[0] for real in REFERENCES[:3]] + [""], lonely, "python")
    assert scores[0] == pytest.approx(10.0) and scores[2] == pytest.approx(10.0)
    assert scores[3] == 0.0
    assert metric.ceiling is None and "single reference" in metric.note


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        (["a"], [["a"], ["b"]], "1 captions for 2 pictures"),
        (["a"], [["a"]], "at least two"),
        (["a", "b"], [["a"], []], "picture 1 lacks a reference"),
        (["a", "b"], [["a"], ["b", " "]], "picture 1 lacks a reference"),
    ],
)
def test_bad_input_is_named(candidates, references, message):
    with pytest.raises(ValueError, match=message):
        cider(candidates, references, "python")
