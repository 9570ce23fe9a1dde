"""Word error rate against torchmetrics and by hand."""

import pytest
from torchmetrics.text import WordErrorRate

from evaluation.metrics.word_error_rate import word_error_rate, word_errors

SAID = ["the cat sat on the mat", "a dog", "no", "seven red hearts on green", "hello there"]
HEARD = ["the cat sat on mat", "a dog barked loudly", "", "seven bread hearts in green", "hello"]


def test_it_equals_torchmetrics():
    reference = WordErrorRate()
    reference.update(HEARD, SAID)
    metric = word_error_rate(HEARD, SAID, "a listener")
    assert metric.value == pytest.approx(float(reference.compute()), abs=1e-7)
    assert metric.value == 7 / 16
    assert (metric.n, metric.extractor) == (16, "a listener")
    assert metric.low < metric.value < metric.high and len(metric.draws) == 1000


def test_errors_of_each_utterance_by_hand():
    assert word_errors(HEARD, SAID).tolist() == [1, 2, 1, 2, 1]


def test_perfect_transcripts_and_silence():
    assert word_error_rate(SAID, SAID, "a listener").value == 0.0
    silent = word_error_rate([""] * 5, SAID, "a listener")
    assert (silent.value, silent.low, silent.high) == (1.0, 1.0, 1.0)


def test_words_heard_where_nothing_was_said_are_errors_and_counted():
    metric = word_error_rate(["a b", "x y z", ""], ["a b", "", ""], "a listener")
    assert metric.value == 1.5
    assert "2 empty references, whose 3 transcribed words are errors" in metric.note


@pytest.mark.parametrize(
    ("heard", "said", "message"),
    [
        (["a"], ["a", "b"], "1 transcripts and 2 references"),
        (["a", "b"], ["", " "], "the 2 references hold no words"),
        ([], [], "the 0 references hold no words"),
    ],
)
def test_bad_input_is_named(heard, said, message):
    with pytest.raises(ValueError, match=message):
        word_error_rate(heard, said, "a listener")
