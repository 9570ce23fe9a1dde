"""The catalogue of drawings, their concepts and their pixels."""

from collections import defaultdict

import numpy as np
import pytest

from mot_lab.data.openmoji import catalogue, concept_code, render
from mot_lab.data.selection import NEAR_DUPLICATE, select


def by_name(name):
    return next(drawing for drawing in catalogue() if drawing.name == name)


def test_every_named_picture_is_there_once():
    drawings = catalogue()
    assert len(drawings) == 3953
    assert len({drawing.hexcode for drawing in drawings}) == 3953
    assert by_name("red heart").hexcode == "2764"


@pytest.mark.parametrize(
    ("concept", "names"),
    [
        ("firefighter", ["firefighter", "man firefighter", "woman firefighter dark skin tone"]),
        ("person running", ["person running", "woman running facing right medium skin tone"]),
        (
            "person",
            ["man", "woman", "person bald", "man light skin tone curly hair", "woman beard"],
        ),
        ("child", ["boy", "girl", "child medium-dark skin tone"]),
        ("thumbs up", ["thumbs up", "thumbs up dark skin tone"]),
        ("family", ["family", "family man boy", "family woman woman girl boy"]),
        ("kiss", ["kiss", "kiss woman man", "kiss man man light skin tone"]),
        ("Santa Claus", ["Santa Claus", "Mrs. Claus", "Mx Claus"]),
        ("restroom", ["restroom", "men’s room", "women’s room"]),
    ],
)
def test_skin_tones_and_genders_share_a_concept(concept, names):
    assert {by_name(name).concept for name in names} == {concept}


def test_different_things_are_different_concepts():
    things = [
        "firefighter",
        "cook",
        "red heart",
        "blue heart",
        "cat",
        "cat face",
        "child",
        "person",
    ]
    assert len({by_name(name).concept for name in things}) == len(things)


def test_no_concept_is_named_by_two_codes_and_no_tone_stands_alone():
    codes = defaultdict(set)
    for drawing in catalogue():
        codes[drawing.concept].add(concept_code(drawing.hexcode))
    assert all(len(each) == 1 for each in codes.values())
    assert not [concept for concept in codes if "skin tone" in concept and len(concept) > 22]


def test_rendering_is_cached_and_has_the_colours_of_the_drawing(tmp_path, monkeypatch):
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path))
    drawings = [by_name("red heart"), by_name("droplet")]
    pixels = render(drawings, 24)
    assert pixels.shape == (2, 24, 24, 4) and pixels.dtype == np.uint8
    red, green, blue, opacity = pixels[0, 12, 12]
    assert red > 180 and green < 80 and blue < 80 and opacity == 255
    assert pixels[0, 0, 0, 3] == 0
    (folder,) = tmp_path.iterdir()
    written = (folder / "rgba.npy").stat().st_mtime_ns
    assert np.array_equal(render(drawings, 24), pixels)
    assert (folder / "rgba.npy").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="0 pixels"):
        render(drawings, 0)


def test_selection_grows_without_changing_and_never_shares_a_concept():
    known, unseen = select(16, 32)
    more, same = select(64, 32)
    assert more[:16] == known and same == unseen
    assert len({drawing.name for drawing in more}) == 64
    assert not {d.concept for d in more} & {d.concept for d in unseen}
    assert len({d.concept for d in unseen}) == 32
    # Not only single drawings are kept back: people and hands come with their skin tones.
    assert sum("skin tone" in drawing.name for drawing in unseen) >= 10


def test_no_known_drawing_looks_like_another_or_like_an_unseen_one():
    """The oracle: differences taken directly, at the size at which scenes show them."""
    known, unseen = select(64, 32)
    pixels = render(known + unseen, 16).astype(float) / 255
    over_gray = pixels[..., :3] * pixels[..., 3:] + 0.5 * (1 - pixels[..., 3:])
    for index in range(64):
        errors = ((over_gray[index] - over_gray) ** 2).mean(axis=(1, 2, 3))
        errors[index] = np.inf
        assert errors.min() > NEAR_DUPLICATE / 2, known[index].name


def test_selection_says_how_many_there_are():
    with pytest.raises(ValueError, match=r"emojis=5000.*has \d+ distinct"):
        select(5000, 32)
    with pytest.raises(ValueError, match="unseen_concepts=9999"):
        select(16, 9999)
    assert len(select(900, 32)[0]) == 900
