"""MultimodalBatch: the one contract between data and model.

Shapes: B rows, S positions, L targets, N denoised images, P patches per image, C x H x W latents.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

PADDING = -1
BEYOND = ("all_rows", "step_targets", "step_images")  # of more than the batch itself


@dataclass(frozen=True)
class MultimodalBatch:
    """Rows of packed documents, with everything that is random in a training step.

    Attributes:
        token_BS: int64 ids in the joint vocabulary; 0 where a position holds a patch or padding.
        modality_BS: int64 ids of the input tokens' modalities (they select the towers), -1 padding.
        document_BS: int64 document ids, unique in a row, -1 padding.
        position_BS: int64 positions inside the document.
        image_BS: int64 image ids, unique in a row, at patches that are denoised; -1 elsewhere.
        target_place_L: int64 flat places ``b * S + s`` whose next token is predicted.
        target_L: int64 the tokens predicted there.
        target_modality_L: int64 their modalities: in whose loss each prediction counts.
        patch_place_M: int64 flat places of all image patches, image by image (M = N * P).
        latents_NCHW: float32 clean image latents.
        noise_NCHW: float32 the noise of this step.
        time_N: float32 noise level of each image, uniform over
            {0, 1/1000, .., 999/1000}.
        counts: real tokens per modality (host ints).
        target_counts: targets per modality (host ints).
        step: the step this batch belongs to.
        all_rows: rows of this batch on all processes together; left out, its own.
        step_targets: targets per modality of all passes of its optimiser step on this process;
            left out, the batch's own.
        step_images: images that are denoised in them; left out, the batch's own.

    Raises:
        ValueError: shapes that do not fit each other, or counts that do not match.
    """

    token_BS: Tensor
    modality_BS: Tensor
    document_BS: Tensor
    position_BS: Tensor
    image_BS: Tensor
    target_place_L: Tensor
    target_L: Tensor
    target_modality_L: Tensor
    patch_place_M: Tensor
    latents_NCHW: Tensor
    noise_NCHW: Tensor
    time_N: Tensor
    counts: dict[str, int]
    target_counts: dict[str, int]
    step: int = 0
    all_rows: int | None = None
    step_targets: dict[str, int] | None = None
    step_images: int | None = None

    def __post_init__(self) -> None:
        shape = self.token_BS.shape
        for name in ("modality_BS", "document_BS", "position_BS", "image_BS"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} is {tuple(getattr(self, name).shape)}, not {shape}")
        if self.target_place_L.shape != self.target_L.shape:
            raise ValueError(
                f"{self.target_place_L.numel()} target places, {self.target_L.numel()} targets"
            )
        if self.target_modality_L.shape != self.target_L.shape or (
            sum(self.target_counts.values()) != self.target_L.numel()
        ):
            raise ValueError(
                f"target counts {self.target_counts} and {self.target_modality_L.numel()} "
                f"modalities for {self.target_L.numel()} targets"
            )
        if self.noise_NCHW.shape != self.latents_NCHW.shape:
            raise ValueError(
                f"noise {tuple(self.noise_NCHW.shape)} is not shaped like "
                f"latents {tuple(self.latents_NCHW.shape)}"
            )
        images = self.latents_NCHW.shape[0]
        if self.time_N.shape != (images,):
            raise ValueError(f"time_N is {tuple(self.time_N.shape)} for {images} images")
        if images and self.patch_place_M.numel() % images:
            raise ValueError(f"{self.patch_place_M.numel()} patches do not divide by {images}")
        if sum(self.counts.values()) > self.token_BS.numel():
            raise ValueError(f"counts {self.counts} exceed the {self.token_BS.numel()} places")

    @property
    def num_images(self) -> int:
        """Number N of images that are denoised."""
        return self.latents_NCHW.shape[0]

    @property
    def samples(self) -> range:
        """Numbers of the rows in their stream, those of other processes included; row i is a
        function of (seed, i).
        """
        rows = self.all_rows or self.token_BS.shape[0]
        return range(self.step * rows, (self.step + 1) * rows)

    @property
    def num_tokens(self) -> int:
        """Number of real tokens, padding excluded."""
        return sum(self.counts.values())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "MultimodalBatch":
        """A copy on another device."""
        return self._with_each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "MultimodalBatch":
        """A copy in memory that a GPU reads while the host goes on (`DataLoader` calls this)."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, made_of: Callable[[Tensor], Tensor]) -> "MultimodalBatch":
        made: dict[str, Any] = {
            field.name: made_of(getattr(self, field.name))
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **made)

    def sha256(self) -> str:
        """Hash of every tensor's bytes: equal batches, equal hashes. Of what stands on other
        processes and in other passes it says nothing.
        """
        digest = hashlib.sha256()
        for field in fields(self):
            if field.name in BEYOND:
                continue
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                digest.update(f"{field.name}{value.dtype}{tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            else:
                digest.update(f"{field.name}{value}".encode())
        return digest.hexdigest()
