"""Figures draw the numbers they name, in the same colours everywhere."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.curve import Curve
from evaluation.figures.losses import loss_curves, seed_band
from evaluation.figures.matching import describe, step_matching
from evaluation.figures.registry import FIGURES, View, draw_figure, figure_makers
from evaluation.figures.samples import generated_pictures, metrics_figure
from evaluation.figures.style import FREE, KNOWN, ArmStyle, arm_styles, save_figure
from evaluation.matching.comparison import match_arm
from evaluation.numbers.study import report_numbers
from evaluation.report.markdown import escape
from evaluation.store.study_record import StudyRecord
from evaluation.wording import show

OWN = [f"arm_{k}" for k in range(len(FREE))]

# Machado, Oliveira and Fernandes (2009), severity 1: what a dichromat sees, in linear RGB.
SEEN_BY = {
    "everyone": np.eye(3),
    "protanopes": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopes": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopes": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
CLEARLY_APART = 15.0  # in CIELAB; 2.3 is just noticeable


def lab(color: str, seen: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour after a matrix on its linear RGB."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip
    xyz = to_xyz @ np.clip(seen @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]


def labelled(figure: Figure, arm: str) -> list[Line2D]:
    """Every line of the arm, in the axes and in the legends."""
    lines = [line for line in figure.findobj(Line2D) if isinstance(line.get_label(), str)]
    return [line for line in lines if line.get_label().split(" ")[0].split("\n")[0] == arm]


def test_an_arm_has_one_style_in_every_study() -> None:
    assert arm_styles(["mot", "dense"])["mot"] == arm_styles(["dense", "moe_4x", "mot"])["mot"]
    assert arm_styles(OWN) == arm_styles(OWN[::-1])
    assert len({style.color for style in arm_styles(OWN[:5]).values()}) == 5
    assert arm_styles(["own", "mot"])["own"] == arm_styles(["own"])["own"]


def test_no_two_arms_look_alike() -> None:
    arms = [*KNOWN, *OWN]
    assert len(set(arm_styles(arms).values())) == len(arms)
    assert len(OWN) >= 10  # what four modalities have of partitions without a known name
    assert set(arm_styles([*OWN, "one more"]).values()) == set(FREE)  # a report is not refused


@pytest.mark.parametrize("reader", SEEN_BY)
def test_colour_blind_readers_tell_the_arms_apart(reader: str) -> None:
    def apart(one: ArmStyle, other: ArmStyle) -> bool:
        seen = SEEN_BY[reader]
        far = np.linalg.norm(lab(one.color, seen) - lab(other.color, seen)) >= CLEARLY_APART
        return bool(far) or (one.line != other.line and one.marker != other.marker)

    styles = [*KNOWN.values(), *FREE]
    assert [pair for pair in combinations(styles, 2) if not apart(*pair)] == []
    on_white = [np.linalg.norm(lab(s.color, np.eye(3)) - lab("white", np.eye(3))) for s in styles]
    assert min(on_white) > 40


def test_every_figure_has_the_arm_in_its_colour_on_white(
    study: StudyRecord, tmp_path: Path
) -> None:
    numbers = report_numbers(replace(study, paper=("figure_6",)))
    styles = arm_styles(list(study.arms))
    for name, make in figure_makers(study, numbers).items():
        figure = make()
        for arm, style in styles.items():
            lines = labelled(figure, arm)
            assert {line.get_color() for line in lines} <= {style.color}, (name, arm)
            kind = name.removesuffix("_text").removesuffix("_image")
            if kind in ("loss", "step_matching") or (kind, arm) == ("unrouted", "moe_4x"):
                assert lines, (name, arm)
        assert figure.get_facecolor() == (1, 1, 1, 1), name
        assert figure.get_suptitle() and all(size >= 7.5 for size in sizes(figure)), name


def sizes(figure: Figure) -> list[float]:
    return [
        text.get_fontsize() for text in figure.findobj(lambda one: hasattr(one, "get_fontsize"))
    ]


def slow_band(curves: list[Curve]) -> np.ndarray:
    """The oracle of ``seed_band``: step by step, seed by seed."""
    rows = []
    for step in sorted({step for curve in curves for step in curve.steps}):
        values = [
            curve.values[curve.steps == step].mean() for curve in curves if step in curve.steps
        ]
        rows.append([step, np.mean(values), min(values), max(values)])
    return np.array(rows)


def test_seed_band_is_mean_least_and_most() -> None:
    steps = np.array([1.0, 2.0, 3.0])
    curves = [Curve(steps, np.array([3.0, 2.0, 1.0])), Curve(steps[:2], np.array([5.0, 2.5]))]
    band = seed_band(curves, binned=False)
    np.testing.assert_array_equal(band, [[1, 4, 3, 5], [2, 2.25, 2, 2.5], [3, 1, 1, 1]])


def test_seed_band_equals_its_oracle() -> None:
    generator = np.random.default_rng(0)
    curves = []
    for _ in range(4):
        steps = np.flatnonzero(generator.random(60) < 0.7).astype(float)
        curves.append(Curve(steps, generator.normal(size=len(steps))))
    np.testing.assert_allclose(seed_band(curves, binned=False), slow_band(curves), rtol=1e-12)


def test_binned_band_averages_over_stretches() -> None:
    steps = np.arange(1.0, 1001.0)
    band = seed_band([Curve(steps, 2 - steps / 1000)], binned=True)
    assert len(band) == 100
    np.testing.assert_allclose(band[:, 1], 2 - band[:, 0] / 1000, rtol=1e-12)
    assert band[0, 0] == pytest.approx(5.0)  # steps 1 to 9 open the first of 100 stretches


def test_long_validation_curves_are_binned_too(study: StudyRecord) -> None:
    steps = np.arange(1.0, 2001.0)
    long = Curve(steps, 3 - steps / 1000)
    runs = [replace(run, curves={**run.curves, ("text", "val"): long}) for run in study.runs]
    figure = loss_curves(replace(study, runs=tuple(runs)), "text", ["val"], ["steps"])
    assert {len(line.get_xdata()) for line in figure.axes[0].lines} == {100}


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


def test_step_matching_is_laid_out_as_in_the_paper(study: StudyRecord) -> None:
    losses, matched = step_matching(study, "image", ["train"]).axes
    assert [line.get_label() for line in losses.lines] == ["dense", "moe_4x †", "mot"]
    assert matched.get_xlim() == matched.get_ylim() and matched.get_box_aspect() == 1
    diagonal = matched.lines[0]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert losses.get_ylabel() == "training loss (mean squared error)"
    both = step_matching(study, "image").axes
    assert [axes.get_title().split(" ")[1] for axes in both[::2]] == ["training", "validation"]


def test_step_matching_prints_and_draws_the_slope(study: StudyRecord) -> None:
    axes = step_matching(study, "image", ["val"]).axes[1]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend[:2] == ["dense (baseline)", "as fast as dense"]
    matching = next(
        row
        for row in report_numbers(study)["matching"]
        if (row["arm"], row["modality"], row["curve"], row["axis"])
        == ("mot", "image", "val", "steps")
    )
    low, high = matching["slope_low"], matching["slope_high"]
    assert f"mot\nslope 0.600 [{low:.3f}, {high:.3f}]\nend ratio 0.600" in legend
    assert next(text for text in legend if "moe_4x †" in text).endswith("end loss never reached")
    mot = arm_styles(["mot"])["mot"]
    fitted = next(line for line in axes.lines if line.get_color() == mot.color and
                  line.get_linestyle() == mot.line)  # fmt: skip
    assert fitted.get_ydata()[-1] / fitted.get_xdata()[-1] == pytest.approx(0.6, rel=2e-3)


def test_step_matching_in_seconds_holds_arms_that_cost_more(study: StudyRecord) -> None:
    axes = step_matching(study, "image", ["val"], "seconds").axes[1]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    highest = max(line.get_ydata().max(initial=0) for line in points)
    assert highest == pytest.approx(400 * 0.65, rel=0.02)  # moe_4x, up to its last step
    assert axes.get_xlim()[1] > highest


def test_one_seed_has_the_band_of_its_points(study: StudyRecord) -> None:
    first = [run for run in study.runs if run.seed == 0]
    figure = step_matching(replace(study, seeds=(0,), runs=tuple(first)), "image", ["val"])
    legend = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert "(over points)" in next(text for text in legend if text.startswith("mot\n"))
    assert len(figure.axes[1].collections) == 2  # a band for each arm that is matched


def test_metrics_show_ceiling_floor_and_what_is_missing(study: StudyRecord) -> None:
    figure = metrics_figure(report_numbers(study))
    clip, cider = figure.axes
    assert clip.get_title() == "CLIP score" and clip.get_xlabel() == "scenes-clip, n = 256"
    drawn = [np.ravel(line.get_ydata())[0] for line in clip.lines if line.get_clip_on()]
    assert drawn == pytest.approx([0.31, 0.29, 0.32, 0.41, 0.05])
    assert "not\navailable" in [text.get_text() for text in cider.texts]


def test_generated_pictures_stand_beside_real_ones(study: StudyRecord) -> None:
    figure = generated_pictures(study, count=2)
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(figure.axes) == 2 * 5 and len(shown) == 2 * 4
    assert shown[0][0, 0].tolist() == [200, 80, 55]  # the real one
    assert shown[3][0, 0].tolist() == [0, 80, 255]  # MoT's, first seed


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_saved_figures_have_the_same_bytes(study: StudyRecord, tmp_path: Path, suffix: str) -> None:
    first, again = (
        save_figure(step_matching(study, "text", ["val"]), tmp_path / f"{name}{suffix}")
        for name in ("a", "b")
    )
    assert first.read_bytes() == again.read_bytes()


def test_a_view_narrows_a_figure(study: StudyRecord) -> None:
    one = draw_figure(study, "loss", View("text", "val", "flops"))
    assert [axes.get_title() for axes in one.axes] == ["validation loss over FLOPs"]
    alone = draw_figure(study, "step_matching", View("text"))
    assert alone.axes[0].get_title() == "text training loss over steps"


@pytest.mark.parametrize(
    ("name", "view", "said"),
    [
        ("losses", View(), "no figure 'losses'; the figures: loss, step_matching, "),
        ("loss", View(), "name one of text, image"),
        ("loss", View("sound"), "no modality 'sound' in 'synthetic'; it has text, image"),
        ("loss", View("text", "test"), "no curve 'test' in 'synthetic'; it has train, val"),
        ("loss", View("text", axis="tokens"), "it has steps, flops, seconds"),
        ("metrics", View("text"), "not drawn by modality; these are: loss, step_matching"),
    ],
)
def test_what_cannot_be_drawn_is_said(study: StudyRecord, name: str, view: View, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw_figure(study, name, view)


def test_a_report_and_the_command_know_the_same_figures(study: StudyRecord) -> None:
    files = figure_makers(study, {})
    assert set(FIGURES) == {name.removesuffix("_text").removesuffix("_image") for name in files}
    assert {"loss_text", "loss_image", "step_matching_text", "step_matching_image"} < set(files)


def test_describe_says_what_was_reached(study: StudyRecord) -> None:
    matching = match_arm(study, "mot", "image", "val")
    some = replace(matching, end_ratio=None, seeds_reached=1)
    assert describe(some).endswith("end reached by 1 of 2 seeds")
    assert describe(replace(matching, slope=None)) == "never reached"


def test_cells_are_rounded_and_escaped() -> None:
    assert [show(x) for x in (1234567, 0.123456, 1.23456e12, None, True)] == [
        "1,234,567", "0.1235", "1.235e+12", "–", "yes",
    ]  # fmt: skip
    assert escape("a|b <i> *c*") == "a\\|b &lt;i> \\*c\\*"
