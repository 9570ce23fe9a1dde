"""``mot-lab data``: a study's data prepared ahead, real data sets turned into manifests."""

import argparse
from pathlib import Path

from mot_lab.commands import Commands, add_config, command

TUXPAINT = """Tux Paint's stamps: 950 pictures whose captions people speak in many languages.
Fetch and unpack them first (161 MB, GPL-2+):
  apt-get download tuxpaint-stamps-default
  dpkg-deb -x tuxpaint-stamps-default_*.deb tuxpaint
Then `mot-lab data tuxpaint tuxpaint` says what there is in each language, and
`mot-lab data tuxpaint tuxpaint --language fr --out french.jsonl` writes a manifest for
data.speech.source."""


PREPARE = """Draw, encode and tokenise all that a study reads, its tokenizers included, into the
cache ($MOT_LAB_CACHE, .cache/mot-lab where one stands). What is there already stays as it is, and a
study finds it. Of a ladder, the data of every rung."""


def add(commands: Commands) -> None:
    """Declare the command, what it does, and its data sets."""
    what = "prepare a study's data, or turn a real data set into a manifest that a study reads"
    sets = commands.add_parser("data", help=what, description=what).add_subparsers(
        title="what to do", required=True, metavar="prepare | DATA_SET"
    )
    add_config(command(sets, "prepare", _prepare, PREPARE))
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
    folders = prepare_all([config.data for config in configs])
    for each in folders:
        state = "made" if each.made else "there already"
        print(f"{each.size / 1e6:10,.1f} MB  {state:13}  {each.path}")
    made = [each for each in folders if each.made]
    whole, new = (sum(each.size for each in some) / 1e6 for some in (folders, made))
    print(f"{len(made)} of {len(folders)} folders made, {new:,.1f} of {whole:,.1f} MB")
