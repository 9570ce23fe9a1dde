"""What data and model must agree on; neither imports the other for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataInterface:
    """What model and data must agree on.

    Attributes:
        modalities: in the order of their ids.
        vocab_size: of the joint vocabulary.
        latent_shape: (C, H, W) of one image.
        patch: side of an image token, in latent positions.
    """

    modalities: tuple[str, ...]
    vocab_size: int
    latent_shape: tuple[int, int, int]
    patch: int

    @property
    def tokens_per_image(self) -> int:
        """Places an image takes in a row, begin and end tokens aside."""
        _, height, width = self.latent_shape
        return height * width // self.patch**2
