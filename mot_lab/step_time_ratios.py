"""Step-time ratios that are stated, not measured: what another system took per step."""

from collections.abc import Mapping, Sequence

MOST_RATIO = 1e6


def check_step_time_ratios(ratios: Mapping[str, float], arms: Sequence[str], baseline: str) -> None:
    """Refuse ratios of arms that there are not, of the baseline, and those not above 0.

    Args:
        ratios: seconds per step in those of the baseline, by arm.
        arms, baseline: of the study.

    Raises:
        ValueError: names the arm and its ratio.
    """
    others = [arm for arm in arms if arm != baseline]
    for arm, ratio in ratios.items():
        if arm not in others:
            raise ValueError(
                f"step_time_ratios.{arm}: {ratio} is of none of the arms "
                f"{', '.join(others)}, which are compared with {baseline}"
            )
        if not 0 < ratio <= MOST_RATIO:
            raise ValueError(
                f"step_time_ratios.{arm}: {ratio} must be above 0 and at most {MOST_RATIO:g}"
            )


def read_step_time_ratios(stated: Sequence[str]) -> dict[str, float]:
    """Ratios from words of a command line, like ``mot=1.36``.

    Raises:
        ValueError: a word of another form.

    Example:
        >>> read_step_time_ratios(["mot=1.36", "moe_4x=1.69"])
        {'mot': 1.36, 'moe_4x': 1.69}
    """
    ratios = {}
    for word in stated:
        arm, _, ratio = word.rpartition("=")
        try:
            ratios[arm] = float(ratio)
        except ValueError:
            arm = ""
        if not arm:
            raise ValueError(f"step-time ratio {word!r} is not of the form arm=1.36")
    return ratios
