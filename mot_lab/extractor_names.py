"""What the networks that pictures are judged with are called in a configuration.

A name is checked when the configuration is read; the weights are loaded much later, in
``evaluation``, by the same reading of the name.
"""

from dataclasses import dataclass
from typing import Literal

OWN = ("scene_clip", "inception", "efficientnet_lite0")
CARRY_WEIGHTS = ("hf-hub:", "local-dir:")  # open_clip names that need no weights beside them


@dataclass(frozen=True)
class ExtractorName:
    """A network and its weights.

    Attributes:
        kind: which loader it takes.
        model: open_clip's name of it, empty for the other kinds.
        weights: a path or a pretrained tag; None where the kind says it all.
    """

    kind: Literal["scene_clip", "inception", "efficientnet_lite0", "open_clip"]
    model: str = ""
    weights: str | None = None


def parse_extractor(name: str) -> ExtractorName:
    """Read a name of ``evaluation.metrics.extractors``.

    Raises:
        ValueError: no such network; or a model of open_clip without weights.
    """
    if name == "scene_clip":
        return ExtractorName("scene_clip")
    if name == "efficientnet_lite0":
        return ExtractorName("efficientnet_lite0")
    kind, _, weights = name.partition(":")
    if kind == "inception":
        return ExtractorName("inception", weights=weights or None)
    if name.startswith(CARRY_WEIGHTS):
        return ExtractorName("open_clip", name)
    return _open_clip(name)


def _open_clip(name: str) -> ExtractorName:
    import open_clip  # takes seconds, and few configurations name one of its models

    model, _, weights = name.partition("/")
    if model not in open_clip.list_models():
        raise ValueError(
            f"extractor {name!r} is none of {', '.join(OWN)}, and open_clip knows no model "
            f"{model!r} (open_clip.list_models() lists them)"
        )
    if not weights:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(
            f"extractor {name!r} needs weights: write {model}/TAG with a pretrained tag ({tags}), "
            f"or {model}//path/of/checkpoint"
        )
    return ExtractorName("open_clip", model, weights)
