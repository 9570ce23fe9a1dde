"""Perplexity and diffusion loss on held-out batches, with noise fixed per picture.

Shapes: R rows, L text targets, N pictures.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from evaluation.bootstrap import mean_draws
from evaluation.metric import Metric
from evaluation.metrics.perplexity import perplexity, unigram_perplexity
from mot_lab.batch import MultimodalBatch
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.expert_load import ExpertTally
from mot_lab.model import MultimodalModel

SPLITS = {"val": "validation", "test": "unseen combinations", "unseen": "unseen emojis"}
FLOOR_BATCHES = 20


@dataclass(frozen=True)
class HeldOutLosses:
    """Of one split under one routing.

    Attributes:
        nll_R, tokens_R: nats of each row, summed over its predicted tokens, and how many these are.
        image_N: diffusion loss of each picture.
    """

    nll_R: np.ndarray
    tokens_R: np.ndarray
    image_N: np.ndarray

    @property
    def text(self) -> float:
        """Nats per token."""
        return float(self.nll_R.sum() / self.tokens_R.sum())

    @property
    def image(self) -> float:
        """Mean over pictures."""
        return float(self.image_N.mean())


@torch.no_grad()
def held_out_losses(
    net: MultimodalModel, batches: Iterable[MultimodalBatch], tally: ExpertTally | None = None
) -> HeldOutLosses:
    """Losses under the routing that is switched on; ``tally`` counts what the experts took."""
    device = next(net.parameters()).device
    nll: list[float] = []
    tokens: list[int] = []
    image: list[float] = []
    for batch in batches:
        batch = batch.to(device)
        output = net(batch)
        nll_L = F.cross_entropy(output.logits_LV.float(), batch.target_L, reduction="none")
        rows, length = batch.token_BS.shape
        row_L = batch.target_place_L // length
        nll += torch.bincount(row_L, nll_L.double(), minlength=rows).tolist()
        tokens += torch.bincount(row_L, minlength=rows).tolist()
        losses_N = net.image.image_losses(
            output.prediction_NCHW, batch.latents_NCHW, batch.noise_NCHW
        )
        image += losses_N.double().tolist()
        if tally is not None:
            tally.add(net, batch)
    return HeldOutLosses(np.array(nll), np.array(tokens), np.array(image))


def loss_metrics(
    losses: HeldOutLosses, split: str, routing: str, data: MultimodalDataModule, objective: str
) -> list[Metric]:
    """Perplexity and diffusion loss of a split; their names end in the routing where it leaks.

    Args:
        losses: of the split.
        split: one of ``SPLITS``.
        routing: ``none``, ``causal`` or ``training``, as in `evaluation.trained.routing.routings`.
        data: gives the tokenizer's size, and the perplexity of knowing the words alone.
        objective: of the diffusion head.
    """
    leaks = routing == "training"
    where = f"({SPLITS[split]})" + (", training routing" if leaks else "")
    seen = "; training routing, which sees later tokens" if leaks else ""
    text = perplexity(
        losses.nll_R,
        losses.tokens_R,
        f"BPE of {data.prepared.texts.vocab_size} tokens, captions and prose{seen}",
        f"perplexity {where}",
        floor=_unigram_floor(data, split),
    )
    image = Metric.sampled(
        f"diffusion loss {where}",
        losses.image,
        mean_draws(losses.image_N),
        len(losses.image_N),
        f"error of the {objective} target, noise fixed{seen}",
        None,
        None,
        "n counts pictures; lower is better",
    )
    return [text, image]


def _unigram_floor(data: MultimodalDataModule, split: str) -> float:
    training = torch.cat([batch.target_L for batch in data.train_loader(FLOOR_BATCHES)]).numpy()
    held_out = torch.cat([batch.target_L for batch in data.held_out_loader(split)]).numpy()
    return unigram_perplexity(training, held_out, data.prepared.texts.vocab_size)
