"""BLEU, METEOR and SPICE against pycocoevalcap, and where their parts are missing."""

import shutil

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.meteor.meteor import Meteor

from evaluation.bootstrap import mean_draws
from evaluation.metrics import caption_metrics as module
from evaluation.metrics.caption_metrics import bleu, bleu_of_counts, caption_metrics, meteor, spice
from evaluation.metrics.caption_tokens import caption_words

REFERENCES = [
    ["a red heart at the top left on yellow", "on yellow a red heart at the top left"],
    ["a fish left of a tram on blue", "on blue a fish and a tram", "a fish beside a tram"],
    ["an umbrella in the rain", "the woman's umbrella is open"],
    ["two cats are asleep on the mat"],
]
CANDIDATES = ["a red heart at the top on yellow", "a fish and a tram on blue", "rain", "two cats"]
WORDS = caption_words(CANDIDATES, REFERENCES, "python")
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")


def test_bleu_is_pycocoevalcaps():
    values = Bleu(4).compute_score(*WORDS.by_picture(), verbose=0)[0]
    metrics = bleu(WORDS)
    assert [metric.name for metric in metrics] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    assert [metric.value for metric in metrics] == values
    assert values[3] > 0.1  # the fixture has runs of four right words
    for metric in metrics:
        assert metric.low <= metric.value <= metric.high and metric.n == 4


def test_a_draw_of_bleu_is_the_bleu_of_the_resampled_pictures():
    # Powers of 5: a mean of four of them tells how often each was drawn.
    sums = np.round(4 * mean_draws(5.0 ** np.arange(4))).astype(int)
    draws = [metric.draws for metric in bleu(WORDS)]
    for draw in range(30):
        chosen = [place for place in range(4) for _ in range(sums[draw] // 5**place % 5)]
        assert len(chosen) == 4
        again = caption_words(
            [CANDIDATES[c] for c in chosen], [REFERENCES[c] for c in chosen], "python"
        )
        expected = Bleu(4).compute_score(*again.by_picture(), verbose=0)[0]
        assert [each[draw] for each in draws] == pytest.approx(expected, rel=1e-5)


def test_bleu_by_hand():
    # 6 of 8 words and 2 of 6 pairs right, 8 words against 10.
    one, two = bleu_of_counts(
        np.array([8.0]), np.array([10.0]), np.array([[8.0], [6.0]]), np.array([[6.0], [2.0]])
    )[:, 0]
    assert one == pytest.approx(0.75 * np.exp(1 - 10 / 8))
    assert two == pytest.approx(np.sqrt(0.75 / 3) * np.exp(1 - 10 / 8))


def test_empty_captions_have_a_bleu_of_zero():
    metrics = bleu(caption_words(["", ""], [["a cat"], ["a dog"]], "python"))
    assert [metric.value for metric in metrics] == pytest.approx([0, 0, 0, 0], abs=1e-6)


@needs_java
def test_meteor_is_pycocoevalcaps_and_its_draws_are_of_resampled_pictures(monkeypatch):
    scorer = Meteor()
    value, _ = scorer.compute_score(*WORDS.by_picture())
    statistics = [
        scorer._stat(c, r) for c, r in zip(WORDS.candidates, WORDS.references, strict=True)
    ]
    chosen = np.random.default_rng(0).integers(4, size=(1000, 4), dtype=np.uint32)[0]
    resampled = [statistics[place] for place in chosen]
    scorer.meteor_p.stdin.write(("EVAL ||| " + " ||| ".join(resampled) + "\n").encode())
    scorer.meteor_p.stdin.flush()
    lines = [scorer.meteor_p.stdout.readline() for _ in range(5)]
    monkeypatch.setattr(module, "Meteor", lambda: scorer)  # its table takes seconds to load
    metric = meteor(WORDS)
    assert metric.value == pytest.approx(value, abs=1e-12)
    assert 0.1 < metric.value < 0.9
    assert metric.draws[0] == pytest.approx(float(lines[-1]), rel=1e-5)
    assert metric.low <= metric.value <= metric.high
    assert "METEOR 1.5" in metric.extractor


def test_without_java_meteor_and_spice_say_so(monkeypatch):
    monkeypatch.setattr(module, "java_runs", lambda: False)
    metrics = {metric.name: metric for metric in caption_metrics(WORDS)}
    assert list(metrics) == [
        "CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "SPICE",
    ]  # fmt: skip
    for name in ("METEOR", "SPICE"):
        assert metrics[name].value is None and "install a Java runtime" in metrics[name].note
    assert metrics["BLEU-4"].value > 0


def test_missing_parts_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "java_runs", lambda: True)
    monkeypatch.setattr(module.meteor_package, "__file__", str(tmp_path / "meteor.py"))
    monkeypatch.setattr(module.spice_package, "__file__", str(tmp_path / "spice.py"))
    assert "meteor-1.5.jar is missing" in meteor(WORDS).note
    assert "get_stanford_models fetches them" in spice(WORDS).note


def test_a_java_program_that_dies_makes_the_metric_unavailable(monkeypatch, tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "java_runs", lambda: True)
    metric = meteor(WORDS)
    assert metric.value is None and "its Java program failed" in metric.note


def test_spice_is_the_mean_over_pictures_that_state_facts(monkeypatch, tmp_path):
    class Scorer:
        def compute_score(self, references, candidates):
            assert candidates[3] == ["two cats"] and references[3] == REFERENCES[3]
            return 0.0, [{"All": {"f": f}} for f in (0.5, 0.25, float("nan"), 0.0)]

    models = tmp_path / module.SPICE_MODELS
    models.parent.mkdir()
    models.write_text("")
    monkeypatch.setattr(module, "java_runs", lambda: True)
    monkeypatch.setattr(module.spice_package, "__file__", str(tmp_path / "spice.py"))
    monkeypatch.setattr(module, "Spice", Scorer)
    metric = spice(WORDS)
    assert (metric.value, metric.n) == (0.25, 3)
    assert "over the 3 of 4 pictures with facts" in metric.note
