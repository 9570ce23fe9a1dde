"""What the networks that pictures are judged with are called in a configuration.

A name is checked when the configuration is read; the weights are loaded much later, in
``evaluation``, by the same reading of the name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mot_lab.parsing import shown

OWN = ("scene_clip", "inception", "efficientnet_lite0")
NOT_OF_SCENES = (
    "scene_clip knows the scenes of a study only: for other pictures name another extractor, like "
    "inception, efficientnet_lite0 or ViT-B-32/laion2b_s34b_b79k"
)
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

    def require_weights(self) -> None:
        """Refuse a path that is not there and a tag that open_clip does not know; weights of a hub
        are looked up when they are loaded.

        Raises:
            ValueError: names the network and its weights.
        """
        if self.weights is not None and self.kind == "inception":
            if not Path(self.weights).is_file():
                raise ValueError(f"extractors: no weights {self.weights!r} for inception")
        elif self.model.startswith("local-dir:"):
            folder = self.model.removeprefix("local-dir:")
            if not Path(folder).is_dir():
                raise ValueError(f"extractors: {self.model!r} must be a folder that is there")
        elif self.weights is not None:
            import open_clip

            known = open_clip.get_pretrained_cfg(self.model, self.weights)
            if not known and not Path(self.weights).exists():
                raise ValueError(
                    f"extractors: weights {self.weights!r} of {self.model} are neither a file nor "
                    f"one of open_clip's: {_tags(self.model)}"
                )


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
            f"extractors: {shown(name)} is none of {', '.join(OWN)}, and open_clip knows no model "
            f"{shown(model)} (open_clip.list_models() lists them)"
        )
    if not weights:
        raise ValueError(
            f"extractors: {name!r} needs weights: write {model}/TAG with a pretrained tag "
            f"({_tags(model)}), or {model}//path/of/checkpoint"
        )
    return ExtractorName("open_clip", model, weights)


def _tags(model: str) -> str:
    import open_clip

    return ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
