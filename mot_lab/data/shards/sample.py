"""A sample of the sources' training documents, which tokenizers are fitted on.

Shapes: N pictures of H x W pixels.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from rich.progress import track

from mot_lab.data.shards.pictures import UnusablePicture, square
from mot_lab.data.sources.raw import RawDocument, RawPicture, RawSound, RawText, Source
from mot_lab.tokens.speech_features import Recording, UnusableRecording, require_sound

VERSION = 1  # raised whenever the same sources would give another sample
PARTS = 16  # of each source, evenly spaced over it
DOCUMENTS = 20_000
CHARACTERS = 50_000_000
PICTURES, PICTURE_BYTES = 4096, 1 << 28


class Sample:
    """The first documents of some parts of every source, in turns.

    Args:
        sources: the training documents of each.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def documents(self) -> Iterator[RawDocument]:
        """One of each part in turn, those that cannot be read passed over."""
        turns = [source.read(part) for source in self._sources for part in _spread(source.parts())]
        while turns:
            going = []
            for records in turns:
                record = next(records, None)
                if record is not None:
                    going.append(records)
                if isinstance(record, RawDocument):
                    yield record
            turns = going

    def texts(self) -> list[str]:
        """Texts of the first 20,000 documents, at most 50 million characters."""
        found: list[str] = []
        left = CHARACTERS
        what = "reading a sample of the texts"
        for document in track(islice(self.documents(), DOCUMENTS), what, total=DOCUMENTS):
            for segment in document.segments:
                if isinstance(segment, RawText) and left > 0:
                    text = segment.text[:left].encode(errors="ignore").decode()
                    found.append(text)
                    left -= len(text)
        return found

    def pictures(self, canvas: int) -> np.ndarray:
        """The first pictures, as many as 256 MiB hold and at most 4,096: uint8 [N, H, W, 3].

        Raises:
            ValueError: there are none.
        """
        most = max(1, min(PICTURES, PICTURE_BYTES // (3 * canvas**2)))
        what = "reading a sample of the pictures"
        found = list(track(islice(self._squares(canvas), most), what, total=most))
        if not found:
            raise ValueError("sources: none of them has a picture that an image tokenizer can see")
        return np.stack(found)

    def recordings(self) -> Iterator[Recording]:
        """Sounds, those that hold none passed over."""
        for document in self.documents():
            for segment in document.segments:
                if isinstance(segment, RawSound):
                    recording = Recording(document.name, segment.samples, segment.rate)
                    try:
                        require_sound(recording)
                    except UnusableRecording:
                        continue
                    yield recording

    def _squares(self, canvas: int) -> Iterator[np.ndarray]:
        for document in self.documents():
            for segment in document.segments:
                if isinstance(segment, RawPicture):
                    try:
                        yield square(segment.data, canvas)
                    except UnusablePicture:
                        continue


def _spread(parts: Sequence[str]) -> list[str]:
    count = min(PARTS, len(parts))
    return [parts[place * len(parts) // count] for place in range(count)]
