"""Data sets laid out like those of the Hugging Face hub, streamed by ``datasets``."""

from pathlib import Path

import pytest
from data.sources.corpora import SENTENCES, c4, peoples_speech, read, texts, wikipedia

from mot_lab.data.sources.config import SourceConfig, open_source


@pytest.fixture
def wiki(tmp_path: Path) -> Path:
    """Two configurations, one of two files and two splits."""
    folder = tmp_path / "wikipedia"
    wikipedia(folder / "20231101.en" / "train-00000-of-00002.parquet", SENTENCES[:3])
    wikipedia(folder / "20231101.en" / "train-00001-of-00002.parquet", SENTENCES[3:])
    wikipedia(folder / "20231101.en" / "validation.parquet", ["validated"])
    wikipedia(folder / "20231101.de" / "train-00000-of-00001.parquet", ["deutsch"])
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        "- config_name: 20231101.en\n  data_files:\n"
        "  - {split: train, path: 20231101.en/train-*}\n"
        "- config_name: 20231101.de\n  data_files:\n"
        "  - {split: train, path: 20231101.de/train-*}\n"
        "- config_name: checked\n  data_files:\n"
        "  - {split: validation, path: 20231101.en/validation*}\n---\n"
    )
    return folder


def test_a_data_set_is_streamed_file_by_file(wiki: Path) -> None:
    path = f"hf:{wiki}:20231101.en"
    config = {"kind": "text", "path": path, "held_out": 0}
    assert texts(read(config)) == [[each] for each in SENTENCES]
    source = open_source(SourceConfig(**config), "train")
    assert source.parts() == [f"{path} file 0", f"{path} file 1"]
    found = list(source.read(source.parts()[1]))
    assert texts(found) == [[SENTENCES[3]]] and found[0].name == f"{path} file 1 row 0"
    assert texts(read(config | {"documents": 2})) == [[each] for each in SENTENCES[:2]]
    val = f"hf:{wiki}:checked@validation"
    assert texts(read(config | {"val": val}, "val")) == [["validated"]]
    before = source.fingerprint()
    assert open_source(SourceConfig(**config), "train").fingerprint() == before
    wikipedia(wiki / "20231101.en" / "train-00001-of-00002.parquet", ["changed"])
    assert open_source(SourceConfig(**config), "train").fingerprint() != before


def test_files_are_read_as_datasets_reads_them(tmp_path: Path) -> None:
    """Our reading of files and that of ``datasets``: the same documents in the same order."""
    said = [f"{n} {SENTENCES[n % 4]}" for n in range(50)]
    for shard in range(3):
        wikipedia(tmp_path / "wiki" / f"train-{shard:05}-of-00003.parquet", said[shard::3])
        c4(tmp_path / "c4" / f"c4-train.{shard:05}-of-00003.json.gz", said[shard::3])
    for folder in (tmp_path / "wiki", tmp_path / "c4"):
        files = texts(read({"kind": "text", "path": str(folder), "held_out": 0.2}))
        assert files == texts(read({"kind": "text", "path": f"hf:{folder}", "held_out": 0.2}))
        assert 20 < len(files) < 40


def test_sounds_of_a_data_set_stay_bytes(tmp_path: Path) -> None:
    peoples_speech(tmp_path / "speech" / "train-00000-of-00001.parquet", 2)
    found = read({"kind": "speech", "path": f"hf:{tmp_path / 'speech'}", "held_out": 0})
    assert texts(found) == [["words 0"], ["words 1"]]
    assert found[1].segments[0].rate == 16_000


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("hf:{}:20231101.fr", "20231101.de"),
        ("hf:{}:20231101.en@test", "train"),
        ("hf:{}/none", "cannot be opened"),
        ("hf:a:b:c", "is not of the form hf:NAME:CONFIG@SPLIT"),
    ],
)
def test_what_is_not_there_is_one_line(wiki: Path, path: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        read({"kind": "text", "path": path.format(wiki)})
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_stream_that_breaks_is_an_error(tmp_path: Path) -> None:
    """Its rest cannot be reached: to leave it out would lose a file's worth of documents."""
    file = c4(tmp_path / "c4" / "c4-train.00000-of-00001.json.gz", (f"{n**40}" for n in range(99)))
    source = open_source(
        SourceConfig(kind="text", path=f"hf:{tmp_path / 'c4'}", held_out=0), "train"
    )
    file.write_bytes(file.read_bytes()[:-900])
    with pytest.raises(ValueError, match="cannot be read after"):
        list(source.read(source.parts()[0]))
