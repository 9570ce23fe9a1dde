"""LibriSpeech's folders: ``84/121123/84-121123-0000.flac`` beside ``84-121123.trans.txt``.

A line of a ``.trans.txt`` is an utterance's name, a space and what is said.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from os.path import basename, dirname

from mot_lab.data.sources.files import LARGEST_FILE, File, expand
from mot_lab.data.sources.json_lines import LINES
from mot_lab.data.sources.raw import DocumentKind, RawSegment, Skipped
from mot_lab.data.sources.records import BadRecord, Record, Wanted, text_of
from mot_lab.data.sources.rows import PARQUET, state_of
from mot_lab.data.sources.speech import sound_of

TRANSCRIPTS = ".trans.txt"
SOUNDS = (".flac", ".wav", ".ogg", ".opus", ".mp3")
PART = 32  # folders: a chapter has some fifty utterances, LibriSpeech 5,800 chapters


def has_transcripts(path: str) -> bool:
    """A folder of LibriSpeech's, not rows of some table."""
    files = expand(path, (TRANSCRIPTS, *PARQUET, *LINES))
    return any(file.path.endswith(TRANSCRIPTS) for file in files)


class LibriSpeech:
    """Utterances below a folder.

    Args:
        path: of the folder, like ``LibriSpeech/train-clean-100``, or several.

    Raises:
        ValueError: nothing there.
    """

    kind: DocumentKind = "speech"

    def __init__(self, path: str) -> None:
        files = expand(path, (TRANSCRIPTS, *SOUNDS))
        chapters: dict[str, list[File]] = defaultdict(list)
        for file in files:
            chapters[dirname(file.name)].append(file)
        self._files = files
        self._chapters = [chapters[name] for name in sorted(chapters)]

    def parts(self) -> list[str]:
        """Runs of chapters."""
        starts = range(0, len(self._chapters), PART)
        return [f"chapters from {dirname(self._chapters[first][0].name)}" for first in starts]

    def records(self, part: str, wanted: Wanted) -> Iterator[Record | Skipped]:
        """See `mot_lab.data.sources.records.Reader`."""
        first = PART * self.parts().index(part)
        for files in self._chapters[first : first + PART]:
            yield from _chapter(files)

    def state(self) -> str:
        """Of the transcripts and sounds."""
        return state_of(self._files)


def _chapter(files: Sequence[File]) -> Iterator[Record | Skipped]:
    """Utterances in the order of the transcripts, then the sounds without one."""
    sounds: dict[str, File] = {}
    for file in files:
        if file.path.lower().endswith(SOUNDS):
            first = sounds.setdefault(basename(file.path).rpartition(".")[0], file)
            if first is not file:
                yield Skipped(file.name, f"{basename(first.path)} is taken, of the same utterance")
    for file in files:
        if not file.path.endswith(TRANSCRIPTS):
            continue
        with file.open() as opened:
            lines = opened.read().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file.name}:{number}"
            try:
                utterance, _, text = line.decode("utf-8-sig").strip().partition(" ")
            except UnicodeDecodeError as error:
                yield Skipped(where, f"not in UTF-8: {error}")
                continue
            sound = sounds.pop(utterance, None)
            if sound is None:
                yield Skipped(where, f"no sound {utterance} in {', '.join(SOUNDS)} beside it")
            else:
                yield Record(sound.name, text.strip() or utterance, partial(_load, sound, text))
    for sound in sounds.values():
        yield Skipped(sound.name, "no transcript of it beside it")


def _load(sound: File, text: str) -> tuple[RawSegment, ...]:
    said = text_of(text, "transcript")
    with sound.open() as opened:
        data = opened.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise BadRecord(f"larger than {LARGEST_FILE:,} bytes")
    return (sound_of(data, sound.name), said)
