"""What data and model must agree on; neither imports the other for it."""

from collections.abc import Mapping
from dataclasses import dataclass

TEXT = "text"


@dataclass(frozen=True)
class Codes:
    """A modality of discrete tokens beside text: a block between its begin and end tokens.

    Attributes:
        size: codes there are.
        length: codes of every block (pictures); None where its end token ends it (speech).
    """

    size: int
    length: int | None = None


@dataclass(frozen=True)
class Latents:
    """A modality that is denoised: latents of one shape, cut into patches.

    Attributes:
        shape: (C, H, W) of one picture.
        patch: side of a token, in latent positions.
    """

    shape: tuple[int, int, int]
    patch: int

    @property
    def length(self) -> int:
        """Places a picture takes in a row, begin and end tokens aside."""
        _, height, width = self.shape
        return height * width // self.patch**2


@dataclass(frozen=True)
class DataInterface:
    """What model and data must agree on.

    The joint vocabulary is the text's (with the begin and end tokens of every other modality),
    followed by the codes of each discrete modality in order.

    Attributes:
        text_vocabulary: entries of the text tokenizer, special tokens included.
        others: the modalities beside text, in the order of their ids 1, 2, ..

    Raises:
        ValueError: more than one modality is denoised.
    """

    text_vocabulary: int
    others: Mapping[str, Codes | Latents]

    def __post_init__(self) -> None:
        denoised = [name for name, each in self.others.items() if isinstance(each, Latents)]
        if len(denoised) > 1:
            raise ValueError(
                f"{', '.join(denoised)} are all denoised; one diffusion head serves one modality: "
                f"give the others discrete codes (image kind vq)"
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of their ids."""
        return (TEXT, *self.others)

    @property
    def vocab_size(self) -> int:
        """Entries of the joint vocabulary."""
        return self.text_vocabulary + sum(
            each.size for each in self.others.values() if isinstance(each, Codes)
        )

    def first_code(self, name: str) -> int:
        """Id of a discrete modality's code 0 in the joint vocabulary."""
        first = self.text_vocabulary
        for other, each in self.others.items():
            if other == name:
                return first
            if isinstance(each, Codes):
                first += each.size
        raise KeyError(name)

    @property
    def diffused(self) -> str | None:
        """The modality that is denoised, if there is one."""
        return next((n for n, each in self.others.items() if isinstance(each, Latents)), None)

    @property
    def latents(self) -> Latents | None:
        """The shape of what is denoised, if anything is."""
        return next((each for each in self.others.values() if isinstance(each, Latents)), None)
