"""Words of captions, as the caption metrics of COCO count them.

Two tokenizers: Stanford's Penn-Treebank tokenizer in Java, which published figures use, and a plain
one where Java does not run. A figure names the one behind it.
"""

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pycocoevalcap.tokenizer import ptbtokenizer

TokenizerName = Literal["ptb", "python"]
TOKENIZERS: dict[TokenizerName, str] = {
    "ptb": "Stanford PTB tokenizer",
    "python": "plain Python tokenizer (no Java here for the PTB tokenizer)",
}


@dataclass(frozen=True)
class CaptionWords:
    """Captions of N pictures as lower-case words joined by single spaces, without punctuation.

    Attributes:
        candidates: N generated captions; an empty one was generated empty.
        references: of each picture its real captions, at least one.
        tokenizer: what split them into words.
    """

    candidates: list[str]
    references: list[list[str]]
    tokenizer: TokenizerName

    def by_picture(self) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        """References and candidates as the scorers of pycocoevalcap take them."""
        given = {place: [caption] for place, caption in enumerate(self.candidates)}
        return dict(enumerate(self.references)), given


def caption_words(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName | None = None,
) -> CaptionWords:
    """Split captions into words, all in one call of the tokenizer.

    Args:
        candidates: N generated captions, possibly empty ones.
        references: for each picture its real captions, at least one, none of them empty.
        tokenizer: "ptb" or "python"; by default "ptb" where Java runs, and "python" elsewhere.

    Raises:
        ValueError: lengths differ, fewer than two pictures, or a picture without a reference.
    """
    if len(candidates) != len(references):
        raise ValueError(
            f"{len(candidates)} captions for {len(references)} pictures with references; "
            "give one caption per picture, empty where nothing was generated"
        )
    if len(candidates) < 2:
        raise ValueError(
            f"captions of {len(candidates)} pictures: the word weights of CIDEr need at least two"
        )
    for place, real in enumerate(references):
        if not real or not all(caption.strip() for caption in real):
            raise ValueError(
                f"picture {place} lacks a reference caption, or has an empty one: {real}"
            )
    chosen: TokenizerName = tokenizer or ("ptb" if java_runs() else "python")
    lines = [*candidates, *(caption for real in references for caption in real)]
    tokens = iter((ptb_tokenize if chosen == "ptb" else python_tokenize)(lines))
    words = [next(tokens) for _ in candidates]
    return CaptionWords(words, [[next(tokens) for _ in real] for real in references], chosen)


@functools.cache
def java_runs() -> bool:
    """Whether ``java`` starts (on some systems a placeholder of that name only asks to install)."""
    java = shutil.which("java")
    return (
        java is not None and subprocess.run([java, "-version"], capture_output=True).returncode == 0
    )


def ptb_tokenize(captions: Sequence[str]) -> list[str]:
    """Lower-case words without punctuation, as pycocoevalcap's PTBTokenizer gives them.

    Calls the same Java class in the same way, but through a pipe (the package may be read-only),
    quietly, and checks what comes back.
    """
    lines = [" ".join(caption.split()) for caption in captions]
    jar = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True)
    tokenized = done.stdout.decode().split("\n")
    tokenized += [""] * (len(lines) - len(tokenized))  # trailing empty captions print no line
    if done.returncode or any(tokenized[len(lines) :]):
        raise RuntimeError(
            f"the PTB tokenizer failed on {len(lines)} captions: {done.stderr.decode()}"
        )
    removed = set(ptbtokenizer.PUNCTUATIONS)
    return [
        " ".join(word for word in line.split() if word not in removed)
        for line in tokenized[: len(lines)]
    ]


def python_tokenize(captions: Sequence[str]) -> list[str]:
    """Lower-case words without punctuation; hyphens and apostrophes inside words stay."""
    return [" ".join(re.findall(r"\w+(?:[-'’]\w+)*", caption.lower())) for caption in captions]
