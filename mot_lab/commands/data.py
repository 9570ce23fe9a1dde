"""``mot-lab data``: a study's data prepared ahead, real data sets turned into manifests."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mot_lab.commands import Commands, add_config, command

if TYPE_CHECKING:
    from mot_lab.data.prepare import DataConfig

MOST_PROCESSES = 1024

TUXPAINT = """Tux Paint's stamps: 950 pictures whose captions people speak in many languages.
Fetch and unpack them first (161 MB, GPL-2+):
  apt-get download tuxpaint-stamps-default
  dpkg-deb -x tuxpaint-stamps-default_*.deb tuxpaint
Then `mot-lab data tuxpaint tuxpaint` says what there is in each language, and
`mot-lab data tuxpaint tuxpaint --language fr --out french.jsonl` writes a manifest for
data.speech.source."""


PREPARE = """Draw, encode and tokenise all that a study reads, its tokenizers included, into the
cache ($MOT_LAB_CACHE, .cache/mot-lab where one stands). What is there already stays as it is, and a
study finds it. Of a ladder, the data of every rung. Own data (data.sources) can be turned into
shards elsewhere: `--out` a folder or a URL, which a study then names under data.prepared. Stopped,
the same command goes on where it was."""


def add(commands: Commands) -> None:
    """Declare the command, what it does, and its data sets."""
    what = "prepare a study's data, or turn a real data set into a manifest that a study reads"
    sets = commands.add_parser("data", help=what, description=what).add_subparsers(
        title="what to do", required=True, metavar="prepare | DATA_SET"
    )
    parser = command(sets, "prepare", _prepare, PREPARE)
    add_config(parser)
    parser.add_argument("--out", metavar="URL", help="folder or URL for shards of data.sources")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="that read sources side by side (all cores)"
    )
    parser = command(sets, "tuxpaint", _tuxpaint, TUXPAINT)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="where the package was unpacked")
    parser.add_argument("--language", help="to write a manifest for, like fr")
    parser.add_argument("--out", type=Path, help="the manifest, JSON lines")


def _tuxpaint(options: argparse.Namespace) -> None:
    from mot_lab.data.recordings import write_manifest
    from mot_lab.data.tuxpaint import count_languages, read_stamps, spoken_captions

    if (options.language is None) != (options.out is None):
        raise ValueError("give both --language and --out, or neither to see what there is")
    stamps = read_stamps(options.folder)
    if options.language is not None:
        captions = spoken_captions(stamps, options.language)
        write_manifest(options.out, captions)
        sizes = {
            split: sum(c.split == split for c in captions) for split in ("train", "val", "test")
        }
        said = ", ".join(f"{count} {split}" for split, count in sizes.items())
        print(f"{options.out}: {len(captions)} recordings ({said})")
        return
    letters = sum(stamp.letter for stamp in stamps)
    print(f"{len(stamps)} pictures, {letters} of them letters and digits")
    print(f"{'language':9}{'recordings':>11}{'letters':>9}{'captions':>10}{'minutes':>9}")
    without = 0
    for language, count in count_languages(stamps).items():
        without += count.without_caption
        print(
            f"{language:9}{count.recordings:11,}{count.letters:9,}{count.captions:10,}"
            f"{count.minutes:9.1f}"
        )
    print(f"{without} recordings have no caption in their language and are left out.")


def _prepare(options: argparse.Namespace) -> None:
    from mot_lab.config import load_study, read_settings
    from mot_lab.data.preparing import prepare_all
    from mot_lab.ladder import read_ladder

    settings = read_settings(options.config, options.overrides)
    if "ladder" in settings:
        configs = [rung.config for rung in read_ladder(settings, str(options.config)).rungs]
    else:
        configs = [load_study(options.config, options.overrides)]
    own = [config.data for config in configs if config.data.own]
    if own:
        _prepare_sources(own, options)
        return
    if options.out is not None or options.processes is not None:
        raise ValueError("--out and --processes are for own data: the study has no data.sources")
    folders = prepare_all([config.data for config in configs])
    for each in folders:
        state = "made" if each.made else "there already"
        print(f"{each.size / 1e6:10,.1f} MB  {state:13}  {each.path}")
    made = [each for each in folders if each.made]
    whole, new = (sum(each.size for each in some) / 1e6 for some in (folders, made))
    print(f"{len(made)} of {len(folders)} folders made, {new:,.1f} of {whole:,.1f} MB")


def _prepare_sources(configs: "list[DataConfig]", options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from mot_lab.data.preparing import prepare_sources
    from mot_lab.runtime.workers import cores

    processes = cores() if options.processes is None else options.processes
    if not 1 <= processes <= MOST_PROCESSES:
        raise ValueError(f"--processes {processes} must be at least 1 and at most {MOST_PROCESSES}")
    for config in configs:  # of a ladder's rungs the first prepares, the others find it
        data = prepare_sources(config, options.out, processes)
        columns = ("source", "split", "documents", "text tokens", "pictures", "units", "left out")
        table = Table(*columns, box=None)
        for number, name in enumerate(data.manifest.source_names):
            for split in config.splits:
                parts = data.manifest.of(split, number)
                counts = (
                    len(data.documents(split)[number]),
                    sum(each.tokens for each in parts),
                    sum(each.pictures for each in parts),
                    sum(each.units for each in parts),
                    sum(data.left_out(split)[number].values()),
                )
                table.add_row(name, split, *(f"{count:,}" for count in counts))
        Console(highlight=False).print(table)
        for note in data.records_left_out():
            print(note)
        size = sum(record.size for _, record in data.manifest.files()) / 1e6
        print(f"{size:,.1f} MB in {data.url}")
