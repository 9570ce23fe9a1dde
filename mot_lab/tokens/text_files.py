"""Text tokenizers that others trained: a ``tokenizer.json`` by file, by folder or by hub id."""

from pathlib import Path

from tokenizers import Tokenizer

from mot_lab.hub import HUB_ID, hub_file
from mot_lab.parsing import brief

FILE = "tokenizer.json"
WRITES_ONE = f"AutoTokenizer.from_pretrained(..).save_pretrained(..) of transformers writes {FILE}"


def read_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``.

    Args:
        path: of the file, of a folder that holds it, or a hub id.

    Raises:
        ValueError: there is none, or it is no tokenizer.
    """
    file = tokenizer_file(path)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception on whatever it cannot parse
        raise ValueError(
            f"{str(file)!r} is no tokenizer.json of `tokenizers` ({brief(error)}); a "
            f"sentencepiece or tiktoken model is none: {WRITES_ONE}"
        ) from error


def tokenizer_file(path: str | Path) -> Path:
    """The ``tokenizer.json`` of a file, folder or hub id; of a hub id it is fetched.

    Raises:
        ValueError: there is none.
    """
    place, name = Path(path), str(path)
    if place.is_file():
        return place
    if place.is_dir():
        if (place / FILE).is_file():
            return place / FILE
        raise ValueError(f"no text tokenizer at {name!r}: the folder has no {FILE}; {WRITES_ONE}")
    if place.suffix == ".json" or not HUB_ID.fullmatch(name):
        raise ValueError(
            f"no text tokenizer at {name!r}: give the path of a tokenizer.json, of a folder that "
            f"holds one, or a hub id"
        )
    try:
        return hub_file(name, FILE)
    except ValueError as error:
        raise ValueError(f"no text tokenizer at {name!r}: no such file, and {error}") from error
