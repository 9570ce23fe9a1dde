"""The documents of one split of a source: which records belong to it, and the first ones only."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from mot_lab.data.recordings import Split, split_of
from mot_lab.data.sources.raw import RawDocument, Skipped
from mot_lab.data.sources.records import BadRecord, Reader, Record


class SplitSource:
    """A `Source` of one split.

    Args:
        reader: of the files.
        split: wanted; None takes all records, of files that hold one split only.
        held_out: share of the records that is val, and share that is test; None where the files
            say the split of each record.
        own: splits that have files of their own, so that nothing of these files is held out for
            them.
        documents: at most so many records are taken, the first ones; None takes all.
        about: whatever else, beside the files, decides what is read.
    """

    def __init__(
        self,
        reader: Reader,
        split: Split | None,
        held_out: float | None,
        own: Sequence[Split],
        documents: int | None,
        about: Mapping[str, object],
    ) -> None:
        self._reader, self._split = reader, split
        self._held_out, self._own, self._documents = held_out, tuple(own), documents
        self._about = dict(about)

    def parts(self) -> list[str]:
        """Those of the files; a single one where only the first records are taken, because how
        many a part holds is known at its end; none where nothing is held out."""
        if self._split not in (None, "train") and self._held_out == 0:
            return []
        return self._reader.parts() if self._documents is None else [self._first()]

    def read(self, part: str) -> Iterator[RawDocument | Skipped]:
        """Documents in the order of the files.

        What cannot be told apart well enough to belong to a split is said in train.
        """
        for record in self._records(part):
            if isinstance(record, Skipped):
                if self._split in (None, "train"):
                    yield record
            elif self._takes(record):
                try:
                    segments = record.load()
                except BadRecord as error:
                    yield Skipped(record.name, str(error))
                    continue
                yield RawDocument(record.name, self._reader.kind, segments)

    def fingerprint(self) -> str:
        """See `mot_lab.data.sources.raw.Source`."""
        settings = [self._split, self._held_out, self._own, self._documents, self._about]
        together = json.dumps([self._reader.state(), *settings], sort_keys=True)
        return hashlib.sha256(together.encode()).hexdigest()[:16]

    def _first(self) -> str:
        return f"first {self._documents} records"

    def _records(self, part: str) -> Iterator[Record | Skipped]:
        if self._documents is None:
            yield from self._reader.records(part, self._wanted)
            return
        if part != self._first():
            raise ValueError(f"no part {part!r}; there is {self._first()!r}")
        every = (
            record
            for each in self._reader.parts()
            for record in self._reader.records(each, self._wanted)
        )
        yield from islice(every, self._documents)

    def _takes(self, record: Record) -> bool:
        if record.split is not None:
            return self._split is None or record.split == self._split
        return self._wanted(record.key)

    def _wanted(self, key: str) -> bool:
        if self._split is None or self._held_out is None:
            return True
        found = split_of(key, self._held_out) if self._held_out else "train"
        return self._split == ("train" if found in self._own else found)
