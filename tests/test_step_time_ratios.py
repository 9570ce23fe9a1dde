"""Stated step-time ratios: read, checked, and at work in reports and matches."""

import pytest

from mot_lab.config import StudyConfig
from mot_lab.parsing import from_dict
from mot_lab.step_time_ratios import check_step_time_ratios, read_step_time_ratios

STUDY = {"name": "tiny", "arms": ["dense", "mot"]}


def test_a_study_keeps_them() -> None:
    assert from_dict(StudyConfig, STUDY).step_time_ratios == {}
    stated = {**STUDY, "step_time_ratios": {"mot": 1.36}}
    assert from_dict(StudyConfig, stated).step_time_ratios == {"mot": 1.36}


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({"moe_4x": 1.69}, "step_time_ratios.moe_4x: 1.69 is of none of the arms mot"),
        ({"dense": 1.0}, "step_time_ratios.dense: 1.0 is of none of the arms mot"),
        ({"mot": 0.0}, "step_time_ratios.mot: 0.0 must be above 0"),
        ({"mot": float("nan")}, "step_time_ratios.mot: nan must be above 0"),
        ({"mot": "fast"}, "step_time_ratios"),
    ],
)
def test_what_is_wrong_is_one_line(ratios: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_dict(StudyConfig, {**STUDY, "step_time_ratios": ratios})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_words_of_a_command_line() -> None:
    assert read_step_time_ratios([]) == {}
    assert read_step_time_ratios(["a=b=2"]) == {"a=b": 2.0}
    for word in ("1.36", "mot", "mot=", "mot=fast", "=1.36"):
        with pytest.raises(ValueError, match="is not of the form arm="):
            read_step_time_ratios([word])
    with pytest.raises(ValueError, match="which are compared with dense"):
        check_step_time_ratios({"dense": 2.0}, ["dense", "mot"], "dense")
