"""Figures draw the numbers they name, in the same colours everywhere."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from evaluation.curve import Curve
from evaluation.plot_style import FREE, KNOWN, arm_styles, save_figure
from evaluation.plots import loss_curves, seed_band, step_matching
from evaluation.report_blocks import show
from evaluation.report_markdown import escape
from evaluation.report_numbers import report_numbers
from evaluation.sample_plots import generated_pictures, metrics_figure
from evaluation.study_record import StudyRecord

OWN = [f"arm_{k}" for k in range(len(FREE))]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]


def test_an_arm_has_one_style_in_every_study() -> None:
    assert arm_styles(["mot", "dense"])["mot"] == arm_styles(["dense", "moe_4x", "mot"])["mot"]
    assert arm_styles(OWN) == arm_styles(OWN[::-1])
    assert len({style.color for style in arm_styles(OWN[:5]).values()}) == 5
    assert arm_styles(["own", "mot"])["own"] == arm_styles(["own"])["own"]


def test_no_two_arms_look_alike() -> None:
    arms = [*KNOWN, *OWN]
    assert len(set(arm_styles(arms).values())) == len(arms)
    with pytest.raises(ValueError, match="only 11 styles"):
        arm_styles([*OWN, "one more"])


def test_seed_band_is_mean_least_and_most() -> None:
    steps = np.array([1.0, 2.0, 3.0])
    curves = [Curve(steps, np.array([3.0, 2.0, 1.0])), Curve(steps[:2], np.array([5.0, 2.5]))]
    band = seed_band(curves, binned=False)
    np.testing.assert_array_equal(band, [[1, 4, 3, 5], [2, 2.25, 2, 2.5], [3, 1, 1, 1]])


def test_binned_band_averages_over_stretches() -> None:
    steps = np.arange(1.0, 1001.0)
    band = seed_band([Curve(steps, 2 - steps / 1000)], binned=True)
    assert len(band) == 100
    np.testing.assert_allclose(band[:, 1], 2 - band[:, 0] / 1000, rtol=1e-12)
    assert band[0, 0] == pytest.approx(5.0)  # steps 1 to 9 open the first of 100 stretches


def test_loss_curves_are_drawn_over_each_axis(study: StudyRecord) -> None:
    figure = loss_curves(study, "image")
    panels = {axes.get_title(): axes for axes in figure.axes}
    ends = {
        title: {line.get_label(): line.get_xdata()[-1] for line in panels[title].lines}
        for title in panels
    }
    assert len(panels) == 6
    assert ends["validation loss over steps"]["mot"] == 400
    assert ends["validation loss over FLOPs"]["mot"] == pytest.approx(400 * 2.5e11)
    assert ends["validation loss over seconds"]["mot"] == pytest.approx(400 * 0.55)
    assert ends["validation loss over seconds"]["moe_4x †"] == pytest.approx(400 * 0.65)
    assert any("sees other tokens" in text for text in texts(figure))


def test_step_matching_prints_and_draws_the_slope(study: StudyRecord) -> None:
    axes = step_matching(study, "image").axes[1]
    lines = {line.get_label().split(":")[0]: line for line in axes.lines}
    label = lines["mot"].get_label()
    assert label == "mot: slope 0.600 [0.576, 0.624], end ratio 0.600"
    rise = lines["mot"].get_ydata()[-1] / lines["mot"].get_xdata()[-1]
    assert rise == pytest.approx(0.6, rel=2e-3)
    assert lines["moe_4x †"].get_label().endswith("end loss never reached")
    assert lines["as fast as dense"].get_ydata()[-1] == 400


def test_metrics_show_ceiling_floor_and_what_is_missing(study: StudyRecord) -> None:
    figure = metrics_figure(report_numbers(study))
    clip, cider = figure.axes
    assert clip.get_title() == "CLIP score\n"
    drawn = [line.get_ydata()[0] for line in clip.lines]
    assert drawn == pytest.approx([0.31, 0.31, 0.31, 0.41, 0.05])
    assert "not\navailable" in [text.get_text() for text in cider.texts]


def test_generated_pictures_stand_beside_real_ones(study: StudyRecord) -> None:
    figure = generated_pictures(study, count=2)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(figure.axes) == 2 * 5 and len(shown) == 2 * 4
    assert shown[0][0, 0].tolist() == [200, 80, 55]  # the real one
    assert shown[3][0, 0].tolist() == [0, 80, 255]  # MoT's, first seed


def test_saved_figures_have_the_same_bytes(study: StudyRecord, tmp_path: Path) -> None:
    first, again = (
        save_figure(generated_pictures(study), tmp_path / name) for name in ("a.svg", "b.svg")
    )
    assert first.read_bytes() == again.read_bytes()


def test_cells_are_rounded_and_escaped() -> None:
    assert [show(x) for x in (1234567, 0.123456, 1.23456e12, None, True)] == [
        "1,234,567", "0.1235", "1.235e+12", "–", "yes",
    ]  # fmt: skip
    assert escape("a|b <i> *c*") == "a\\|b &lt;i> \\*c\\*"
