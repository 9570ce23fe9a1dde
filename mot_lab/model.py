"""The network: tokens and latents in, logits and denoising predictions out. No training here.

Shapes: B rows, S positions, T tokens in grouped order, D width, L targets, N images,
P patches per image, M modalities, V joint vocabulary, C x H x W latents.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mot_lab.backbones.grouping import TokenGroups
from mot_lab.backbones.transformer import Transformer
from mot_lab.backbones.transformer_config import TransformerConfig
from mot_lab.backbones.wiring import Wiring
from mot_lab.batch import MultimodalBatch
from mot_lab.data.interface import DataInterface
from mot_lab.heads.autoregressive import AutoregressiveHead
from mot_lab.heads.diffusion import DiffusionConfig, DiffusionHead


@dataclass(frozen=True)
class Output:
    """What the network says of a batch.

    Attributes:
        logits_LV: of the predicted tokens; None where their losses alone were asked for.
        nats_M: the sum of these losses by modality; None where logits were asked for.
        prediction_NCHW: of the images that are denoised, None where none are.
    """

    logits_LV: Tensor | None
    nats_M: Tensor | None
    prediction_NCHW: Tensor | None


class MultimodalModel(nn.Module):
    """The heads around one backbone: next-token prediction for every discrete modality, denoising
    where the data has latents.

    Args:
        backbone: size and switches of the transformer.
        wiring: the arm.
        diffusion: of the diffusion head.
        data: vocabulary, latents and patches, agreed with the data.

    Attributes:
        distributed: whether all processes of `torch.distributed` are at work on one batch, each on
            rows of its own, as in training; elsewhere a process may call the network alone.
    """

    def __init__(
        self,
        backbone: TransformerConfig,
        wiring: Wiring,
        diffusion: DiffusionConfig,
        data: DataInterface,
    ) -> None:
        super().__init__()
        self.distributed = False
        self.transformer = Transformer(backbone, wiring)
        self.autoregressive = AutoregressiveHead(data.vocab_size, backbone.width)
        self.diffused = data.diffused
        self.diffusion: DiffusionHead | None = None
        if (latents := data.latents) is not None:
            self.diffusion = DiffusionHead(diffusion, latents.shape, latents.patch, backbone.width)

    def groups(self, batch: MultimodalBatch) -> TokenGroups:
        """The batch's tokens grouped by the arm's towers."""
        return TokenGroups.build(batch.modality_BS, batch.counts, self.transformer.wiring)

    def forward(self, batch: MultimodalBatch, logits: bool = True) -> Output:
        """Predict the next tokens and the noise of the images.

        Args:
            batch: of any size.
            logits: give them; else the losses of the tokens, by modality, for which they are never
                all held at once (`mot_lab.heads.autoregressive.AutoregressiveHead.nats`).
        """
        hidden_TD, groups, kept = self.hidden(batch, self._noised(batch))
        hidden_LD = hidden_TD.index_select(0, groups.places(batch.target_place_L))
        prediction_NCHW = None
        if self.diffusion is not None:
            prediction_NCHW = self._decode(self.diffusion, hidden_TD, groups, kept, batch)
        if logits:
            return Output(self.autoregressive.logits(hidden_LD), None, prediction_NCHW)
        return Output(None, self._nats(hidden_LD, batch), prediction_NCHW)

    def _nats(self, hidden_LD: Tensor, batch: MultimodalBatch) -> Tensor:
        """Sum of the losses by modality [M]."""
        counts = [batch.target_counts.get(name, 0) for name in self.transformer.wiring.modalities]
        target_L = batch.target_L
        if max(counts) < len(target_L):
            order_L = batch.target_modality_L.argsort(stable=True)
            hidden_LD, target_L = hidden_LD.index_select(0, order_L), target_L[order_L]
        parts = zip(hidden_LD.split(counts), target_L.split(counts), strict=True)
        none = hidden_LD.new_zeros(())
        # Where nothing is predicted at all, weights get gradients of zero all the same.
        asked = [count > 0 or not len(target_L) for count in counts]
        return torch.stack(
            [
                self.autoregressive.nats(*part) if ask else none
                for part, ask in zip(parts, asked, strict=True)
            ]
        )

    def hidden(
        self, batch: MultimodalBatch, noised_NCHW: Tensor
    ) -> tuple[Tensor, TokenGroups, Tensor | None]:
        """Final hidden states [T, D] in grouped order, the groups, and what the codec kept."""
        x_ND = self.autoregressive.embed(batch.token_BS.flatten())
        kept = None
        if self.diffusion is not None:
            patches_NPD, kept = self.diffusion.codec.encode(noised_NCHW, batch.time_N)
            patches_MD = patches_NPD.reshape(-1, x_ND.shape[-1])
            x_ND = x_ND.index_copy(0, batch.patch_place_M, patches_MD.to(x_ND.dtype))
        groups = self.groups(batch)
        self.transformer.share_experts(groups if self.distributed else None)
        context = self.transformer.context(
            groups, batch.document_BS, batch.image_BS, batch.position_BS
        )
        return self.transformer(groups.group(x_ND), groups, context), groups, kept

    def _noised(self, batch: MultimodalBatch) -> Tensor:
        if self.diffusion is None:
            return batch.latents_NCHW
        return self.diffusion.add_noise(batch.latents_NCHW, batch.noise_NCHW, batch.time_N)

    @staticmethod
    def _decode(
        head: DiffusionHead,
        hidden_TD: Tensor,
        groups: TokenGroups,
        kept: Tensor | None,
        batch: MultimodalBatch,
    ) -> Tensor:
        hidden_MD = hidden_TD.index_select(0, groups.places(batch.patch_place_M))
        hidden_NPD = hidden_MD.view(batch.num_images, head.codec.tokens, hidden_MD.shape[-1])
        return head.codec.decode(hidden_NPD, batch.time_N, kept)
