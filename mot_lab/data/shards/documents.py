"""The documents of one source's split, out of all its parts."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mot_lab.data.packing import Layout
from mot_lab.data.shards.manifest import PartRecord
from mot_lab.data.shards.part import KINDS, Part, StoredDocument

PIECES = ("text", "interleaved")  # kinds that are cut into pieces where they are long


class SourceDocuments:
    """Documents 0 .. n - 1 of a source, those left aside that no row has room for.

    Args:
        root: of the prepared shards.
        parts: of the source's split.
        layout: of the rows.

    Attributes:
        kinds: of the documents, whatever rows have room for.
        too_long: how many are left aside: pairs with a caption, or speech, that is longer than a
            row. Text and interleaved documents are cut into pieces instead.
    """

    def __init__(self, root: Path, parts: Sequence[PartRecord], layout: Layout) -> None:
        filled = [each for each in parts if each.documents]
        self.kinds = {kind for each in filled for kind in each.kinds}
        self.parts = [Part(root / each.folder) for each in filled]
        self._begins = np.cumsum([0, *(each.documents for each in filled)]).tolist()
        self._fitting = self._those_that_fit(filled, layout)
        all_of_them = self._begins[-1]
        self.too_long = 0 if self._fitting is None else all_of_them - len(self._fitting)

    def __len__(self) -> int:
        return self._begins[-1] if self._fitting is None else len(self._fitting)

    def document(self, number: int) -> StoredDocument:
        """One of them."""
        part, place = self.place(number)
        return part.document(place)

    def place(self, number: int) -> tuple[Part, int]:
        """The part that a document is in, and its number there."""
        if self._fitting is not None:
            number = int(self._fitting[number])
        part = bisect_right(self._begins, number) - 1
        return self.parts[part], number - self._begins[part]

    def of_kinds(self, *kinds: str) -> np.ndarray:
        """Numbers of the documents of some kinds, int64."""
        wanted = [KINDS.index(kind) for kind in kinds]
        found = [np.isin(part.kinds(), wanted) for part in self.parts]
        everywhere = np.concatenate([np.zeros(0, bool), *found])
        if self._fitting is not None:
            everywhere = everywhere[self._fitting]
        return np.flatnonzero(everywhere)

    def _those_that_fit(self, records: Sequence[PartRecord], layout: Layout) -> np.ndarray | None:
        """Their numbers; None where all do."""
        room = layout.length - 2
        picture = (layout.blocks["image"].length or 0) + 2
        cut = [KINDS.index(kind) for kind in PIECES]
        fits = [
            np.ones(len(part), bool)
            if set(record.kinds) <= set(PIECES)  # nothing of a long text is read for this
            else np.isin(part.kinds(), cut) | (part.sizes(picture) <= room)
            for part, record in zip(self.parts, records, strict=True)
        ]
        if all(each.all() for each in fits):
            return None
        return np.flatnonzero(np.concatenate(fits))
