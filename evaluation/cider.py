"""CIDEr of generated captions: pycocoevalcap's scorer on Penn-Treebank tokens.

CIDEr weighs words by how rare they are among the references it is given. With few pictures, or
captions as alike as those of generated scenes, its scale is not COCO's: read it between its floor
and its ceiling, at its n.
"""

import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.tokenizer import ptbtokenizer

from evaluation.bootstrap import mean_interval
from evaluation.metric import Metric
from evaluation.shuffle import derangement

TokenizerName = Literal["ptb", "python"]
EXTRACTORS: dict[TokenizerName, str] = {
    "ptb": "pycocoevalcap CIDEr, Stanford PTB tokenizer",
    "python": "pycocoevalcap CIDEr, plain Python tokenizer (no Java here for the PTB tokenizer)",
}


def cider(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName | None = None,
    seed: int = 0,
) -> Metric:
    """CIDEr of one caption per picture against the picture's reference captions.

    The ceiling scores real captions: of each picture one reference (another one from picture to
    picture) against the others, where every picture has two or more. The floor scores real captions
    of other pictures.

    Args:
        candidates: N generated captions; an empty one scores 0.
        references: for each picture its real captions, at least one, none of them empty.
        tokenizer: "ptb" or "python"; by default "ptb" where Java runs, and "python" elsewhere.
        seed: of the shuffle and of the interval over pictures (document frequencies held fixed).

    Raises:
        ValueError: lengths differ, fewer than two pictures, or a picture without a reference.
    """
    chosen = tokenizer or ("ptb" if java_runs() else "python")
    words, words_of_references = _tokenized(candidates, references, chosen)
    scores_N = _cider_scores(words, words_of_references)
    low, high = mean_interval(scores_N, seed=seed)

    held_out = [real[place % len(real)] for place, real in enumerate(words_of_references)]
    other = [held_out[place] for place in derangement(len(held_out), seed)]
    ceiling, note = None, "no ceiling: some pictures have a single reference"
    if min(map(len, words_of_references)) > 1:
        rest = [
            [*real[: place % len(real)], *real[place % len(real) + 1 :]]
            for place, real in enumerate(words_of_references)
        ]
        ceiling, note = float(_cider_scores(held_out, rest).mean()), ""
    return Metric(
        name="CIDEr",
        value=float(scores_N.mean()),
        low=low,
        high=high,
        n=len(scores_N),
        extractor=EXTRACTORS[chosen],
        ceiling=ceiling,
        floor=float(_cider_scores(other, words_of_references).mean()),
        note=note,
    )


def cider_scores(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: TokenizerName | None = None,
) -> np.ndarray:
    """CIDEr of each picture, float64 [N]; their mean is the set's CIDEr. Arguments as ``cider``."""
    chosen = tokenizer or ("ptb" if java_runs() else "python")
    return _cider_scores(*_tokenized(candidates, references, chosen))


def _cider_scores(words: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    wanted = {place: list(real) for place, real in enumerate(references)}
    given = {place: [caption] for place, caption in enumerate(words)}
    return Cider().compute_score(wanted, given)[1]


def _tokenized(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenizer: TokenizerName
) -> tuple[list[str], list[list[str]]]:
    if len(candidates) != len(references):
        raise ValueError(
            f"{len(candidates)} captions for {len(references)} pictures with references; "
            "give one caption per picture, empty where nothing was generated"
        )
    if len(candidates) < 2:
        raise ValueError(f"CIDEr of {len(candidates)} pictures: its word weights need at least two")
    for place, real in enumerate(references):
        if not real or not all(caption.strip() for caption in real):
            raise ValueError(
                f"picture {place} lacks a reference caption, or has an empty one: {real}"
            )
    lines = [*candidates, *(caption for real in references for caption in real)]
    tokens = iter((ptb_tokenize if tokenizer == "ptb" else python_tokenize)(lines))
    words = [next(tokens) for _ in candidates]
    return words, [[next(tokens) for _ in real] for real in references]


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
