"""Sources become shards: whole or absent, gone on with where they stopped, limited in what they
lose, and refused by name where they were made of something else.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_sources import (
    OWN,
    FakeSource,
    config_of,
    fakes,
    open_fakes,
    pair,
    speech,
    split_in_parts,
    text,
)
from voices import babble

from mot_lab.data.own_data import prepare_own
from mot_lab.data.prepare import DataConfig
from mot_lab.data.shards import checking, writing
from mot_lab.data.shards.manifest import MANIFEST, PART
from mot_lab.data.shards.writing import write_shards
from mot_lab.data.sources.raw import RawDocument, RawSound, RawText, Skipped
from mot_lab.parsing import from_dict
from mot_lab.tokens.speech_features import Recording


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_the_same_sources_make_the_same_bytes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_fakes(monkeypatch, fakes())
    manifest = write_shards(config_of(tmp_path / "again"), str(tmp_path / "again"), 1)
    assert contents(tmp_path / "again") == contents(prepared)
    counts = {
        s: [sum(p.documents for p in parts) for parts in manifest.parts[s]] for s in manifest.parts
    }
    assert counts == {"train": [16, 11, 4], "val": [6, 4, 2], "test": [12, 4, 0]}


def test_what_stopped_goes_on_and_reads_nothing_twice(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped behind any number of parts: the rest is written, and all of it is as undisturbed."""
    folder, whole = tmp_path / "shards", contents(prepared)
    parts = [name for name in whole if name.endswith(PART)]
    for stop in (1, 4, len(parts) - 1):
        sources = fakes()
        open_fakes(monkeypatch, sources)
        write, done = writing._write_part, []

        def stopping(job: object, write=write, done=done, stop=stop) -> object:
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(job)
            return write(job)

        with monkeypatch.context() as patch:
            patch.setattr(writing, "_write_part", stopping)
            with pytest.raises(KeyboardInterrupt):
                write_shards(config_of(folder), str(folder), 1)
        begun = contents(folder)
        assert MANIFEST not in begun
        assert {name: whole[name] for name in begun} == begun
        sources = fakes()
        open_fakes(monkeypatch, sources)
        write_shards(config_of(folder), str(folder), 1)
        assert contents(folder) == whole
        reads = sum(len(each.reads) for of in sources.values() for each in of.values())
        assert reads == len(parts) - sum(name.endswith(PART) for name in begun)
        monkeypatch.undo()
        monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()


def test_a_folder_without_its_record_is_written_again(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    open_fakes(monkeypatch, fakes())
    write_shards(config_of(folder), str(folder), 1)
    (folder / MANIFEST).unlink()
    (folder / "train/00-webdataset/00002" / PART).unlink()
    abandoned = folder / "train/00-webdataset/.00001-abc"
    abandoned.mkdir()
    write_shards(config_of(folder), str(folder), 1)
    assert contents(folder) == contents(prepared) and not abandoned.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": {"vocab_size": 301}}, "text.vocab_size 300, the configuration says 301"),
        ({"scenes": {"canvas": 16}}, "canvas 8, the configuration says 16"),
        ({"latents": "float16"}, "latents float32, the configuration says float16"),
    ],
)
def test_shards_of_other_settings_are_refused(prepared: Path, changes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prepare_own(config_of(prepared, **changes))


def test_shards_of_other_sources_are_refused(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(prepared)
    config.sources[1].path = "elsewhere"
    with pytest.raises(ValueError, match=r"was prepared with sources .*'texts'"):
        prepare_own(config)
    sources = fakes()
    sources["texts"]["train"].records["part0"].pop()
    open_fakes(monkeypatch, sources)
    with pytest.raises(ValueError, match=r"was prepared with (tokenizers|fingerprints)"):
        write_shards(config_of(prepared), str(prepared), 1)


def test_weights_and_rows_may_be_other_ones(prepared: Path) -> None:
    config = config_of(prepared, row_length=32, rows=2)
    config.sources[0].weight = 99
    assert prepare_own(config).stream("train")._until[0] == pytest.approx(99 / 102)
    without = prepare_own(config_of(prepared, sources=[]))
    assert without.stream("train")._until.tolist() == pytest.approx([3 / 6, 5 / 6, 1])


def test_documents_that_no_row_has_room_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = split_in_parts(pair, {"train": [12], "val": [4], "test": [4]})
    open_fakes(monkeypatch, {"pairs": sources})
    own = {**OWN, "sources": [{"kind": "webdataset", "path": "pairs"}]}
    config = from_dict(DataConfig, {**own, "prepared": str(tmp_path / "shards")})
    write_shards(config, str(tmp_path / "shards"), 1)
    every = prepare_own(config).documents("train")[0]
    sizes = sorted(2 + int(size) for part in every.parts for size in part.sizes(6))
    assert len(every) == 12 and every.too_long == 0
    middle = sizes[5]
    config.row_length = middle
    fewer = prepare_own(config)
    fitting = sum(size <= middle for size in sizes)
    assert 0 < fitting < 12 and len(fewer.documents("train")[0]) == fitting
    assert fewer.left_out("train") == [{"longer than a row": 12 - fitting}]
    (note,) = (each for each in fewer.records_left_out() if "train" in each)
    left = f"{fitting} documents; left out {12 - fitting} longer than a row."
    assert note == f"webdataset pairs, train: {left}"
    stream, rng = fewer.stream("train"), np.random.default_rng(0)
    assert all(fewer.layout.size(stream.draw(rng)) <= middle for _ in range(200))
    config.row_length = sizes[0] - 1
    with pytest.raises(ValueError, match=r"row_length .* none of the 12 documents of webdataset"):
        prepare_own(config).stream("train")


def test_what_is_skipped_is_limited_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = split_in_parts(text, {"train": [5, 4], "val": [5], "test": [5]})
    sources["train"].records["part1"].insert(1, Skipped("c4.json:7", "no JSON: x"))
    open_fakes(monkeypatch, {"texts": sources})
    folder = tmp_path / "shards"
    own = {**OWN, "sources": [{"kind": "text", "path": "texts"}], "prepared": str(folder)}
    config = from_dict(DataConfig, own)
    with pytest.raises(
        ValueError, match=r"1 of 20 records of text texts cannot.*c4\.json:7: no JSON"
    ):
        write_shards(config, str(folder), 1)
    assert not (folder / MANIFEST).exists()
    config.unusable = 0.05
    write_shards(config, str(folder), 1)  # the parts are there
    data = prepare_own(config)
    assert data.left_out("train") == [{"no JSON": 1}]
    assert "text texts, train: 9 documents; left out 1 no JSON." in data.notes()
    config.unusable = 0.04
    with pytest.raises(ValueError, match=r"unusable allows 0\.04"):
        prepare_own(config)


def test_a_split_without_documents_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_fakes(monkeypatch, {"texts": split_in_parts(text, {"train": [5], "val": [2]})})
    own = {**OWN, "sources": [{"kind": "text", "path": "texts"}]}
    with pytest.raises(ValueError, match="none of them has a document in the split test"):
        write_shards(from_dict(DataConfig, own), str(tmp_path / "shards"), 1)


def test_speech_of_units_needs_no_tokenizer(tmp_path: Path, monkeypatch) -> None:
    sources = split_in_parts(speech, {"train": [6], "val": [4], "test": [4]})
    open_fakes(monkeypatch, {"units": sources})
    own = {
        **OWN,
        "sources": [{"kind": "units", "path": "units"}],
        "speech": {"tokenizer": {"units": 16}},
        "prepared": str(tmp_path / "shards"),
    }
    config = from_dict(DataConfig, own)
    write_shards(config, str(tmp_path / "shards"), 1)
    data = prepare_own(config)
    assert data.speech is None
    pool = data.speech_pool("test")
    assert pool is not None and len(pool) == 4
    for number, record in enumerate(sources["test"].records["part0"]):
        units, said = record.segments
        assert np.array_equal(pool.units(number), units.units)
        assert pool.wave_text(number) == said.text
    with pytest.raises(ValueError, match="a source of kind units needs them"):
        from_dict(DataConfig, {**own, "speech": None})


def test_sounds_are_units_of_a_tokenizer_fitted_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sound(name: str, seed: int) -> RawDocument:
        samples = babble(seed, vowels=2, rate=16_000).astype(np.float32)
        return RawDocument(name, "speech", (RawSound(samples, 16_000), RawText("a red fish")))

    sources = split_in_parts(sound, {"train": [4], "val": [2], "test": [2]})
    sources["test"].records["part0"].append(
        RawDocument("silence", "speech", (RawSound(np.zeros(800, np.float32), 16_000),))
    )
    open_fakes(monkeypatch, {"sounds": sources})
    own = {
        **OWN,
        "sources": [{"kind": "speech", "path": "sounds"}],
        "speech": {"tokenizer": {"units": 6, "fit_recordings": 3}},
        "unusable": 0.2,
        "prepared": str(tmp_path / "shards"),
    }
    config = from_dict(DataConfig, own)
    write_shards(config, str(tmp_path / "shards"), 1)
    data = prepare_own(config)
    pool = data.speech_pool("test")
    assert pool is not None and len(pool) == 2 and data.speech is not None
    assert data.left_out("test") == [{"unusable sound": 1}]
    for number in range(2):
        heard, _ = sources["test"].records["part0"][number].segments
        units = data.speech.every_unit(Recording("", heard.samples, heard.rate))
        assert np.array_equal(pool.units(number), units) and pool.wave_text(number) == "a red fish"


@pytest.mark.parametrize(
    "image",
    [
        {"kind": "vq", "vq": {"fit_steps": 4, "size": 32, "width": 32}},
        {"kind": "vae", "fit": {"fit_steps": 4, "width": 32, "latent_channels": 4}},
    ],
    ids=["codes", "latents"],
)
def test_fitted_tokenizers_are_kept_beside_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: dict[str, object]
) -> None:
    sources = split_in_parts(pair, {"train": [12], "val": [4], "test": [4]})
    open_fakes(monkeypatch, {"pairs": sources})
    own = {**OWN, "sources": [{"kind": "webdataset", "path": "pairs"}], "image": image, "patch": 1}
    config = from_dict(DataConfig, {**own, "prepared": str(tmp_path / "shards")})
    write_shards(config, str(tmp_path / "shards"), 1)
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "another machine"))
    data = prepare_own(config)
    pairs = data.pairs("test")
    assert pairs is not None
    expected = np.asarray(data.images.encode(pairs.pictures(0, 4)))
    found = pairs.encoded(4)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()  # another batch
    assert not list((tmp_path / "another machine").glob("image-*"))  # nothing was fitted again


def test_a_url_is_written_and_fetched_once(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/store"
    open_fakes(monkeypatch, fakes())
    write_shards(config_of(None), url, 1)
    assert contents(tmp_path / "store") == contents(prepared)
    config = config_of(None, prepared=url)
    data = prepare_own(config)
    fetched = list((tmp_path / "cache").glob("fetched-*"))
    assert len(fetched) == 1 and not (fetched[0] / "train").exists()  # tokenizers suffice
    local = prepare_own(config_of(prepared)).stream("train")
    for index in range(5):
        one, other = (s.draw(np.random.default_rng(index)) for s in (data.stream("train"), local))
        for a, b in zip(one.segments, other.segments, strict=True):
            assert all(np.array_equal(vars(a)[name], vars(b)[name]) for name in vars(a))
    stored = {name: each for name, each in contents(prepared).items() if name.endswith(".npy")}
    mirrored = contents(fetched[0])
    assert {name: mirrored[name] for name in stored} == stored
    monkeypatch.setattr(checking.RemotePlace, "fetch", None)  # nothing is fetched again
    prepare_own(config_of(None, prepared=url, rows=2)).stream("train")


def test_an_unknown_url_and_an_empty_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing://x: Protocol not known: nothing"):
        prepare_own(config_of(None, prepared="nothing://x"))
    with pytest.raises(ValueError, match="run `mot-lab data prepare"):
        prepare_own(config_of(tmp_path))


def test_a_manifest_that_leaves_its_folder_is_refused(prepared: Path, tmp_path: Path) -> None:
    values = json.loads((prepared / MANIFEST).read_text())
    values["parts"]["train"][0][0]["folder"] = "train/../../../elsewhere"
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="outside its folder"):
        prepare_own(config_of(tmp_path))


def test_without_a_folder_sources_are_prepared_in_the_cache(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; and once more where a source has changed."""
    monkeypatch.setattr("mot_lab.data.own_data.cores", lambda: 1)  # others have no fakes
    sources = fakes()
    open_fakes(monkeypatch, sources)
    first = prepare_own(config_of(None))
    parts = {path.name: path for path in (tmp_path / "cache").glob("prepared-*")}
    assert list(parts) == [Path(first.url).name]
    arrays = {name: each for name, each in contents(prepared).items() if name.endswith(".npy")}
    found = contents(Path(first.url))
    assert {name: found[name] for name in arrays} == arrays
    monkeypatch.setattr("mot_lab.data.shards.writing.write_shards", None)
    assert prepare_own(config_of(None, rows=2)).url == first.url
    monkeypatch.undo()
    monkeypatch.setenv("MOT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mot_lab.data.own_data.cores", lambda: 1)
    sources["texts"]["val"].records["part0"].pop()
    open_fakes(monkeypatch, sources)
    changed = prepare_own(config_of(None))
    assert changed.url != first.url and len(changed.documents("val")[1]) == 3


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_fakes(monkeypatch, fakes())
    folder = tmp_path / "shards"
    folder.mkdir()
    with (
        writing.FileLock(folder / ".lock"),
        pytest.raises(ValueError, match="is being prepared by another process"),
    ):
        write_shards(config_of(folder), str(folder), 1)


def test_a_source_without_anything_to_train_on_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_fakes(monkeypatch, {"texts": {"val": FakeSource({"part0": [text("a", 0)]})}})
    own = {**OWN, "sources": [{"kind": "text", "path": "texts"}]}
    with pytest.raises(ValueError, match="source text texts has nothing to train on"):
        write_shards(from_dict(DataConfig, own), str(tmp_path / "shards"), 1)
