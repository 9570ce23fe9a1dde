"""Prepared shards that were cut, altered or lost are refused by name; whoever prepares is killed
and goes on.
"""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_sources import config_of, prepare_fakes
from reliability.amounts import amount
from reliability.processes import child, digests

from mot_lab.data import own_data
from mot_lab.data.own_data import prepare_own
from mot_lab.data.shards.manifest import MANIFEST


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "shards"
    prepare_fakes(folder)
    return folder


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
    own_data._documents.cache_clear()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "one bit": _flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}
FILES = (
    "train/00-webdataset/00000/tokens.npy",
    "train/00-webdataset/00002/pictures.npy",
    "train/01-text/00001/text_starts.npy",
    "val/02-interleaved/00000/segments.npy",
    "test/00-webdataset/00001/pixels.npy",
    "tokenizers/text/tokenizer.json",
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name(
    whole: Path, tmp_path: Path, damage: str, record_property
) -> None:
    handled = 0
    for number, name in enumerate(FILES):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        DAMAGES[damage](folder / name)
        with pytest.raises(ValueError, match=rf"{name}.*mot-lab data prepare"):
            prepare_own(config_of(folder)).stream("train")
        handled += 1
    record_property("tried", len(FILES))
    record_property("handled", handled)


def test_damage_after_it_was_found_whole_is_seen_by_its_time_of_change(
    whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(whole, folder)
    prepare_own(config_of(folder)).stream("train")
    own_data._documents.cache_clear()
    prepare_own(config_of(folder)).stream("train")
    _flip(folder / FILES[0])
    own_data._documents.cache_clear()
    with pytest.raises(ValueError, match=f"{FILES[0]} is not as it was written"):
        prepare_own(config_of(folder)).stream("train")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no JSON"),
        (b'{"format": 1, "settings"', "is no JSON"),
        (b"\xff\xfe", "is not in UTF-8"),
        (b"[]", "is laid out otherwise"),
        (b'{"format": 1}', "is laid out otherwise"),
        (b'{"format": 99}', "is of format 99"),
    ],
)
def test_a_damaged_manifest_is_one_line(
    whole: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(whole, folder)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=f"{MANIFEST} {said}"):
        prepare_own(config_of(folder))


def test_killed_while_it_prepares_it_goes_on(whole: Path, tmp_path: Path, record_property) -> None:
    """Nothing under a final name is half written, and the next call ends with the same bytes."""
    wanted = digests(whole)
    rng, kills, handled = random.Random(0), amount(2, 12), 0
    child(print).join()  # the fork server has imported everything when it answers
    began = time.monotonic()
    first = child(prepare_fakes, tmp_path / "timed" / "shards")
    first.join()
    seconds = time.monotonic() - began
    for number in range(kills):
        folder = tmp_path / str(number) / "shards"
        process = child(prepare_fakes, folder)
        process.join(rng.uniform(0.2, 0.95) * seconds)
        process.kill()
        process.join()
        begun = {
            name: each
            for name, each in digests(folder).items()
            if not any(part.startswith(".") for part in Path(name).parts)
        }
        sound = begun == {name: wanted[name] for name in begun}
        again = child(prepare_fakes, folder)
        again.join()
        handled += sound and again.exitcode == 0 and digests(folder) == wanted
    record_property("tried", kills)
    record_property("handled", handled)
    assert handled == kills
