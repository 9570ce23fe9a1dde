"""Text tokens: a byte-level BPE with the special tokens that documents are built from: begin and
end of a document, and of a block of each other modality.

Fitted here, every string has an exact encoding: bytes are the alphabet. A ``tokenizer.json`` of
others (Llama's, say) is used as it is, special tokens that it lacks added behind its vocabulary.
A text that happens to contain "<bos>" is spelled out like any other, so that a special token can
only be put in by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mot_lab.limits import MOST_PLACES, require_between
from mot_lab.runtime.cache import cached, content_key
from mot_lab.tokens.text_files import read_tokenizer, tokenizer_file

DOCUMENT_TOKENS = ("<pad>", "<bos>", "<eos>")
FIT_VERSION = 2  # raised whenever the same texts would give another vocabulary


def begin_token(modality: str) -> str:
    """What opens a block of a modality beside text, like ``<begin_image>``."""
    return f"<begin_{modality}>"


def end_token(modality: str) -> str:
    """What closes it."""
    return f"<end_{modality}>"


def special_tokens(modalities: Sequence[str]) -> tuple[str, ...]:
    """All special tokens, for documents with these modalities beside text."""
    blocks = [make(name) for name in modalities for make in (begin_token, end_token)]
    return (*DOCUMENT_TOKENS, *blocks)


def least_vocabulary(modalities: Sequence[str]) -> int:
    """Entries of the smallest vocabulary of documents with these modalities beside text."""
    return 256 + len(special_tokens(modalities))


@dataclass
class TextTokenizerConfig:
    """Which text tokenizer a run uses.

    Attributes:
        vocab_size: entries of a vocabulary to be fitted, special tokens included: at least 256
            bytes, 3 tokens of documents and 2 of each other modality.
        path: a ``tokenizer.json`` of Hugging Face `tokenizers`, to be used instead of fitting one:
            the file, a folder that holds it, or a hub id.
    """

    vocab_size: int = 1024
    path: str | None = None

    def __post_init__(self) -> None:
        require_between(self, 1, MOST_PLACES, "vocab_size")

    def vocabulary(self, modalities: Sequence[str]) -> int:
        """Entries that a model must have room for, without fitting anything.

        Args:
            modalities: those beside text, whose special tokens are added where a file lacks them.
        """
        if self.path is None:
            return self.vocab_size
        file = tokenizer_file(self.path)
        return _size(file, file.stat().st_mtime_ns, tuple(modalities))


@lru_cache(maxsize=16)
def _size(file: Path, changed: int, modalities: tuple[str, ...]) -> int:
    """Of a file as it was changed last: one of Llama-3's size takes half a second to read."""
    return TextTokenizer.load(file, modalities).vocab_size


class TextTokenizer:
    """Strings to token ids and back, around a Hugging Face ``tokenizers.Tokenizer``.

    Args:
        tokenizer: any; it gets the `special_tokens` that it lacks, behind its vocabulary.
        modalities: those beside text.

    Attributes:
        vocab_size: one more than the highest id.

    Raises:
        ValueError: it gives two entries one id, or a text can spell a special token.

    Example:
        >>> tokenizer = fit_text_tokenizer(["a red heart"], 261, ["image"])
        >>> tokenizer.decode([tokenizer.bos_id, *tokenizer.encode("<eos> é"), tokenizer.eos_id])
        '<eos> é'
    """

    def __init__(self, tokenizer: Tokenizer, modalities: Sequence[str]) -> None:
        special = special_tokens(modalities)
        tokenizer.add_special_tokens(list(special))  # those that it has keep their ids
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # "<bos>" inside a text stays text
        self._tokenizer = tokenizer
        self._modalities = tuple(modalities)
        ids = self.ids()
        self._special = {token: ids[token] for token in special}
        self.pad_id, self.bos_id, self.eos_id = (self._special[token] for token in DOCUMENT_TOKENS)
        self.vocab_size = 1 + max(ids.values())
        if len(set(ids.values())) < len(ids):
            raise ValueError("the text tokenizer gives two entries of its vocabulary the same id")
        for token, place in self._special.items():
            if place in self.encode(token):
                raise ValueError(
                    f"the text tokenizer makes its special token {token} of a text that says "
                    f"{token}: that entry must be no piece of its vocabulary, but added to it"
                )

    @property
    def kind(self) -> str:
        """The model in it: ``BPE``, ``Unigram``, ``WordPiece`` or ``WordLevel``."""
        return type(self._tokenizer.model).__name__

    def ids(self) -> dict[str, int]:
        """Every entry of the vocabulary, special tokens included, with its id."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def begin_id(self, modality: str) -> int:
        """Id of the token that opens a block of a modality."""
        return self._special[begin_token(modality)]

    def end_id(self, modality: str) -> int:
        """Id of the token that closes it."""
        return self._special[end_token(modality)]

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without any special token."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts; equal to ``encode`` of each, and several times faster."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, without special tokens; bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def key(self) -> str:
        """What tells this tokenizer from another, for the cache."""
        return content_key(self._tokenizer.to_str())

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json`` that ``load`` and Hugging Face libraries read."""
        self._tokenizer.save(str(path))

    @classmethod
    def load(cls, path: str | Path, modalities: Sequence[str]) -> TextTokenizer:
        """The tokenizer of a ``tokenizer.json``, for documents with these modalities beside text.

        Args:
            path: of the file, of a folder that holds it, or a hub id.

        Raises:
            ValueError: there is none, it is no tokenizer, or unfit (see the class).
        """
        tokenizer = read_tokenizer(path)
        try:
            return cls(tokenizer, modalities)
        except ValueError as error:
            raise ValueError(f"{str(path)!r}: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled Tokenizer forgets encode_special_tokens, and data workers get pickled copies.
        return _from_json, (self._tokenizer.to_str(), self._modalities)


def _from_json(text: str, modalities: Sequence[str]) -> TextTokenizer:
    return TextTokenizer(Tokenizer.from_str(text), modalities)


def fit_text_tokenizer(
    texts: Iterable[str], vocab_size: int, modalities: Sequence[str]
) -> TextTokenizer:
    """A byte-level BPE of at most ``vocab_size`` entries, special tokens first.

    Few or short texts give fewer entries than asked for: read ``vocab_size`` of what comes back.

    Raises:
        ValueError: where ``vocab_size`` cannot hold the bytes and the special tokens.
    """
    special = special_tokens(modalities)
    if vocab_size < (least := least_vocabulary(modalities)):
        raise ValueError(
            f"vocab_size {vocab_size} is too small for 256 bytes and {len(special)} special "
            f"tokens: give at least {least}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return TextTokenizer(tokenizer, modalities)


def load_text_tokenizer(
    config: TextTokenizerConfig,
    modalities: Sequence[str],
    texts: Callable[[], Iterable[str]],
    key: Any,
) -> TextTokenizer:
    """The tokenizer of a config: the one at ``config.path``, or one fitted on the texts and cached.

    Args:
        modalities: those beside text, whose begin and end tokens it needs.
        texts: gives the training texts; called only when there is something to fit.
        key: what determines the texts (JSON or dataclasses), for the cache.
    """
    if config.path is not None:
        return TextTokenizer.load(config.path, modalities)

    def build(folder: Path) -> None:
        fitted = fit_text_tokenizer(texts(), config.vocab_size, modalities)
        fitted.save(folder / "tokenizer.json")

    determinants = {
        "version": FIT_VERSION,
        "vocab_size": config.vocab_size,
        "modalities": list(modalities),
        "texts": key,
    }
    folder = cached("text-tokenizer", determinants, build)
    return TextTokenizer.load(folder / "tokenizer.json", modalities)
