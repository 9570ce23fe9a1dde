"""The figure of sensitivity draws every variant of every slope, and says what it cuts off."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from evaluation.figures.sensitivity import sensitivity_figure
from evaluation.figures.style import arm_styles

SMOOTHINGS = ("isotonic", "moving average of 5% of the steps")


def numbers(interval: float = 0.05) -> dict[str, Any]:
    """Two arms: mot needs less than the baseline; slow never reaches its end."""
    slopes = {"mot": 0.6, "late": 1.4}
    return {
        "study": "s",
        "baseline": "dense",
        "modalities": ["text", "image"],
        "arms": {arm: {"loss_sees_other_tokens": arm == "late"} for arm in ("dense", *slopes)},
        "sensitivity": [
            {
                "arm": arm,
                "modality": modality,
                "curve": "val",
                "smoothing": smoothing,
                "warmup_steps": 40.0,
                "estimate": estimate,
                "value": None if (missing := arm == "late" and estimate == "end") else slope,
                "low": None if missing else slope - interval,
                "high": None if missing else slope + interval,
                "is_default": (smoothing, estimate) == ("isotonic", "fit"),
            }
            for arm, slope in slopes.items()
            for modality in ("text", "image")
            for smoothing in SMOOTHINGS
            for estimate in ("end", "fit")
        ],
    }


def marks(figure: Figure, arm: str, marker: str) -> list[tuple[float, int]]:
    """Where the arm has such a marker in the first panel: value, row from the top."""
    axes = figure.axes[0]
    rows = len(axes.get_yticks())
    return sorted(
        (line.get_xdata()[0], rows - 1 - round(line.get_ydata()[0]))
        for line in axes.lines
        if (line.get_color(), line.get_marker()) == (arm_styles([arm])[arm].color, marker)
    )


def test_a_row_per_variant_with_the_default_on_top() -> None:
    figure = sensitivity_figure(numbers())
    text, image = figure.axes
    assert (text.get_title(), image.get_title()) == ("text", "image")
    labels = [label.get_text() for label in text.get_yticklabels()][::-1]
    assert labels == [
        "fitted slope, isotonic, past step 40",
        "fitted slope, moving average of 5% of the steps, past step 40",
        "end ratio, isotonic",
        "end ratio, moving average of 5% of the steps",
    ]
    bold = [label.get_fontweight() == "bold" for label in text.get_yticklabels()][::-1]
    assert bold == [True, False, False, False]
    assert marks(figure, "mot", "s") == [(0.6, row) for row in range(4)]
    assert marks(figure, "late", arm_styles(["late"])["late"].marker) == [(1.4, 0), (1.4, 1)]
    assert marks(figure, "late", "x") == [(1.0, 2), (1.0, 3)]  # never reached: on the right edge
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["mot", "late †", "never reached"]


def test_wide_intervals_are_cut_off_with_an_arrow() -> None:
    figure = sensitivity_figure(numbers(interval=8.0))
    left, right = figure.axes[0].get_xlim()
    assert left < 0.6 and right > 1.4 and right - left < 3
    assert [row for _, row in marks(figure, "mot", "<")] == [0, 1, 2, 3]
    assert {value for value, _ in marks(figure, "mot", ">")} == {right}
    assert marks(sensitivity_figure(numbers()), "mot", "<") == []


def test_one_modality_or_none() -> None:
    assert [axes.get_title() for axes in sensitivity_figure(numbers(), "image").axes] == ["image"]
    with pytest.raises(ValueError, match="no variants of the training loss of text and image"):
        sensitivity_figure(numbers(), curve="train")
