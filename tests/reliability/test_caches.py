"""A cache is whole or absent, whoever is killed; damage is named; two may build the same one."""

import random
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from reliability.amounts import amount
from reliability.processes import child, digests, kill_at_random, prepare_data

from mot_lab.runtime import cache
from mot_lab.runtime.cache import CHECKSUMS, cached

Build = Callable[[Path], None]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], float]:
    """The files of a cache that nobody disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    child(print).join()  # the fork server has imported everything when it answers
    began = time.monotonic()
    process = child(prepare_data, folder)
    process.join()
    assert process.exitcode == 0
    return digests(folder), time.monotonic() - began


def test_killed_while_it_fits_and_encodes(tmp_path: Path, undisturbed, record_property) -> None:
    whole, seconds = undisturbed
    rng = random.Random(0)
    kills, handled = amount(3, 16), 0
    for number in range(kills):
        folder = tmp_path / str(number)
        clear = partial(shutil.rmtree, folder)
        kill_at_random(partial(child, prepare_data, folder), clear, seconds, rng)
        found = {name: each for name, each in digests(folder).items() if name[0] != "."}
        begun = {name.split("/")[0] for name in found}
        sound = found == {name: each for name, each in whole.items() if name.split("/")[0] in begun}
        again = child(prepare_data, folder)
        again.join()
        # the rest is made, and nothing half built is left
        handled += sound and again.exitcode == 0 and digests(folder) == whole
    record_property("tried", kills)
    record_property("handled", handled)
    assert handled == kills


def test_two_processes_at_once_end_with_one_whole_cache(tmp_path: Path, undisturbed) -> None:
    pair = [child(prepare_data, tmp_path) for _ in range(2)]
    for process in pair:
        process.join()
    assert [process.exitcode for process in pair] == [0, 0]
    assert digests(tmp_path) == undisturbed[0]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_checked", set())

    def build(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "tokens.npy").write_bytes(bytes(range(256)))

    return build


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.unlink(),
        lambda path: path.with_name("more").touch(),
        lambda path: (path.parents[1] / CHECKSUMS).unlink(),
        lambda path: (path.parents[1] / CHECKSUMS).write_text('{"inner/tok'),
    ],
    ids=["one bit", "cut short", "missing", "one more", "no checksums", "torn checksums"],
)
def test_damage_is_named_with_how_to_mend_it(
    build: Build, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    folder = cached("kind", "key", build)
    damage(folder / "inner" / "tokens.npy")
    assert cached("kind", "key", build) == folder  # checked once per process
    monkeypatch.setattr(cache, "_checked", set())
    with pytest.raises(ValueError, match=f"remove the folder {folder}, and it is made again"):
        cached("kind", "key", build)


def test_only_what_dead_processes_left_is_removed(build: Build, tmp_path: Path) -> None:
    dead = child(print)
    dead.join()
    final = cached("kind", "key", lambda folder: build(folder))
    start = cache._beside(final)
    (tmp_path / f"{start}{dead.pid}-abc").mkdir()
    (tmp_path / f"{start}1-abc").mkdir()  # process 1 lives as long as the machine
    (tmp_path / f".{final.name}-another.machine-{dead.pid}-abc").mkdir()
    for path in final.rglob("*"):
        if path.is_file():
            path.unlink()
    (final / "inner").rmdir()
    final.rmdir()
    cached("kind", "key", build)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(
        [final.name, f"{start}1-abc", f".{final.name}-another.machine-{dead.pid}-abc"]
    )
