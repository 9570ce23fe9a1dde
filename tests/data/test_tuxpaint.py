"""Tux Paint's stamps: pictures, captions and recordings by language; the real set if given."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from voices import babble

from mot_lab.cli import main
from mot_lab.data.recordings import read_manifest, read_picture, read_recording
from mot_lab.data.tuxpaint import count_languages, read_stamps, spoken_captions
from mot_lab.tokens.speech_features import require_sound

REAL = "MOT_LAB_TUXPAINT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files as Debian's package lays them out."""
    stamps = tmp_path / "usr/share/tuxpaint/stamps"
    texts = {
        "animals/squirrel": "A squirrel.\nde.utf8=Ein Eichhörnchen.\nfr.utf8=Un écureuil.\n",
        "animals/squirrel_red[1]": "A squirrel.\nfr.utf8=Un écureuil.\n",
        "animals/wombat": "A wombat.\nfr.utf8=\n",
        "symbols/alphabets/english/a": "Capital A.\nfr.utf8=A majuscule.\n",
        "nopicture": "Nothing.\nfr.utf8=Rien.\n",
    }
    for name, text in texts.items():
        (stamps / name).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{stamps / name}.txt").write_text(text, encoding="utf-8")
        if name != "nopicture":
            picture = Image.new("RGBA", (12, 9), (200, 10, 10, 255))
            picture.save(f"{stamps / name}.png")
    (stamps / "animals/wombat.png").unlink()
    (stamps / "animals/wombat.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
        '<rect width="10" height="10" fill="#0000ff"/></svg>'
    )
    sounds = {
        "animals/squirrel_desc_fr": 3,
        "animals/squirrel_desc_de": 2,
        "animals/squirrel": 1,  # an effect
        "animals/squirrel_red[1]_desc_fr": 4,
        "animals/wombat_desc": 5,  # English
        "animals/wombat_desc_fr": 5,  # but no French caption
        "symbols/alphabets/english/a_desc_fr": 2,
        "nopicture_desc_fr": 2,
    }
    for name, vowels in sounds.items():
        soundfile.write(f"{stamps / name}.ogg", babble(0, vowels, 44_100), 44_100)
    return tmp_path


def test_what_is_spoken_in_each_language(folder: Path) -> None:
    stamps = read_stamps(folder)
    assert [stamp.picture.name for stamp in stamps] == [
        "squirrel.png",
        "squirrel_red[1].png",
        "wombat.svg",
        "a.png",
    ]
    assert [stamp.letter for stamp in stamps] == [False, False, False, True]
    counts = count_languages(stamps)
    assert list(counts) == ["fr", "de", "en"]
    french = counts["fr"]
    assert (french.recordings, french.letters, french.captions) == (3, 1, 2)
    assert french.without_caption == 1
    assert french.minutes == pytest.approx((3 + 4 + 2) * 0.15 / 60, rel=1e-6)
    english = spoken_captions(stamps, "en")
    assert [(each.text, each.audio.name) for each in english] == [("A wombat.", "wombat_desc.ogg")]


def test_the_command_writes_a_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "french.jsonl"
    main(["data", "tuxpaint", str(folder), "--language", "fr", "--out", str(out)])
    captions = read_manifest(out)
    assert [each.text for each in captions] == ["Un écureuil.", "Un écureuil.", "A majuscule."]
    assert captions[0].split == captions[1].split
    assert all(each.picture is not None and each.picture.is_file() for each in captions)
    assert [len(read_recording(each.audio).wave_n) for each in captions] == [19_845, 26_460, 13_230]
    assert "3 recordings" in capsys.readouterr().out


def test_the_command_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "tuxpaint", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 pictures, 1 of them letters and digits"
    assert lines[2].split() == ["fr", "3", "1", "2", "0.0"]
    assert lines[-1] == "1 recordings have no caption in their language and are left out."


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--language", "xx", "--out", "x.jsonl"], "nothing is spoken in 'xx', only in de, en, fr"),
        (["--language", "fr"], "give both --language and --out"),
    ],
)
def test_wrong_calls_end_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    with pytest.raises(SystemExit):
        main(["data", "tuxpaint", str(folder), *arguments])
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1


def test_a_folder_without_stamps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no stamps below .*dpkg-deb -x"):
        read_stamps(tmp_path)


@pytest.mark.skipif(
    REAL not in os.environ,
    reason=f"set {REAL} to the folder that tuxpaint-stamps-default was unpacked to",
)
def test_the_real_package() -> None:
    stamps = read_stamps(os.environ[REAL])
    assert (len(stamps), sum(stamp.letter for stamp in stamps)) == (950, 158)
    counts = count_languages(stamps)
    found = {language: count.recordings for language, count in counts.items()}
    expected = {"fr": 925, "ru": 918, "ca": 915, "ro": 913, "bg": 910, "es": 888}
    expected |= {"be": 688, "el": 657, "da": 321, "en": 65}
    assert {language: found[language] for language in expected} == expected
    assert sum(found.values()) == 7273
    assert sum(count.minutes for count in counts.values()) == pytest.approx(176, abs=1)
    french = spoken_captions(stamps, "fr")
    sizes = Counter(each.split for each in french)
    assert sizes["val"] > 50 and sizes["test"] > 50 and sizes["train"] > 700
    for each in french[::40]:
        require_sound(read_recording(each.audio))
    blank = [s.picture.name for s in stamps if np.ptp(read_picture(s.picture, 32)) == 0]
    assert blank == ["lightningbolt.png"]  # white on nothing
