"""``mot-lab data``: real data sets turned into manifests that a study reads."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, command

TUXPAINT = """Tux Paint's stamps: 950 pictures whose captions people speak in many languages.
Fetch and unpack them first (161 MB, GPL-2+):
  apt-get download tuxpaint-stamps-default
  dpkg-deb -x tuxpaint-stamps-default_*.deb tuxpaint
Then `mot-lab data tuxpaint tuxpaint` says what there is in each language, and
`mot-lab data tuxpaint tuxpaint --language fr --out french.jsonl` writes a manifest for
data.speech.source."""


def add(commands: Commands) -> None:
    """Declare the command and its data sets."""
    what = "turn a real data set into a manifest that a study reads"
    sets = commands.add_parser("data", help=what, description=what).add_subparsers(
        title="data sets", required=True, metavar="DATA_SET"
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
