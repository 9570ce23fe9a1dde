"""The auxiliary routers of one trained model, kept in a file beside its checkpoint.

They belong to exactly the weights they were fitted on: the file holds a digest of these, and is
refused beside any others.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from mot_lab.backbones.auxiliary_router import AuxiliaryRouter
from mot_lab.backbones.transformer import Transformer
from mot_lab.limits import MOST_SEED, MOST_STEPS, require_between, require_positive
from mot_lab.optim import MOST_LR
from mot_lab.parsing import from_dict
from mot_lab.runtime.files import atomic_file
from mot_lab.runtime.plain_files import laid_out, parse_json

FORMAT = "mot-lab causal router 1"


@dataclass
class RouterConfig:
    """How auxiliary routers are fitted on a frozen model (`mot_lab.fit_router`).

    MoMa (arXiv 2407.21770, table 6) takes 5,000 to 10,000 steps of 4.2M tokens and a learning rate
    of 1e-4 falling to 1e-6; the defaults are for small models, with the same ratio of the two.

    Attributes:
        steps: training batches, one optimiser step each.
        lr: learning rate at the first step.
        final_lr: at the last, reached by a cosine.
        threshold: a token goes to each expert whose auxiliary score is above it (0.5: MoMa).
        seed: of the routers' first weights and of the order of the batches.
    """

    steps: int = 300
    lr: float = 5e-3
    final_lr: float = 5e-5
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_between(self, 1, MOST_STEPS, "steps")
        require_positive(self, MOST_LR, "lr")
        if not 0 <= self.final_lr <= self.lr:
            raise ValueError(
                f"final_lr {self.final_lr} must be at least 0 and at most lr {self.lr}"
            )
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold} must lie between 0 and 1")
        require_between(self, 0, MOST_SEED, "seed")


@dataclass(frozen=True)
class RouterQuality:
    """How far the routers decide as top-k does, over all pairs of a held-out token and an expert.

    Attributes:
        accuracy: share of the pairs decided as top-k does.
        precision: share of the pairs they take that top-k takes too; 0 where they take none.
        recall: share of the pairs top-k takes that they take too.
    """

    accuracy: float
    precision: float
    recall: float


@dataclass(frozen=True)
class CausalRouter:
    """Auxiliary routers, by ``layer/tower``, and what they were fitted on.

    Attributes:
        routers: one for each expert-choice feed-forward.
        config: they were fitted with.
        quality: on held-out data.
        weights: `weights_digest` of the network.
        step: of the training that gave these weights.
    """

    routers: Mapping[str, AuxiliaryRouter]
    config: RouterConfig
    quality: RouterQuality
    weights: str
    step: int

    @property
    def parameters(self) -> int:
        """Number of weights of all routers."""
        return sum(router.parameters for router in self.routers.values())

    def attach(self, transformer: Transformer) -> None:
        """Make causal routing possible, on the device of the network."""
        device = next(transformer.parameters()).device
        routers = {name: router.to(device) for name, router in self.routers.items()}
        transformer.set_auxiliary_routers(routers)

    def save(self, path: Path) -> None:
        """Write safetensors, whole or not at all."""
        tensors = {
            f"{name}/{part}": getattr(router, part).detach().cpu().contiguous()
            for name, router in self.routers.items()
            for part in ("into_DH", "out_HE")
        }
        about = {
            "config": asdict(self.config),
            "quality": asdict(self.quality),
            "weights": self.weights,
            "step": self.step,
        }
        with atomic_file(path) as file:
            file.write(save(tensors, {"format": FORMAT, "about": json.dumps(about)}))


def load_router(path: Path) -> CausalRouter:
    """What `CausalRouter.save` wrote.

    Raises:
        ValueError: a file that is cut short, of something else, or holds a number that is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  no dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no whole causal router: {error}") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is no causal router of mot-lab ({FORMAT})")
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path} holds a weight {key} that is not finite")
    about = parse_json(metadata.get("about", ""), f"{path}: about")
    with laid_out(path):
        config = from_dict(RouterConfig, about["config"], f"{path}: config")
        names = sorted({key.rpartition("/")[0] for key in tensors})
        routers = {
            name: AuxiliaryRouter(
                tensors[f"{name}/into_DH"], tensors[f"{name}/out_HE"], config.threshold
            )
            for name in names
        }
        quality = RouterQuality(**about["quality"])
        return CausalRouter(routers, config, quality, about["weights"], about["step"])


def router_path(checkpoint: Path) -> Path:
    """Where the causal router of a checkpoint lies: ``checkpoint.router.safetensors``; that of an
    export lies in its folder.
    """
    if checkpoint.is_dir():
        return checkpoint / "router.safetensors"
    return checkpoint.with_suffix(".router.safetensors")


def weights_digest(net: nn.Module) -> str:
    """SHA-256 over the names and bytes of a network's weights."""
    digest = hashlib.sha256()
    for name, weight in net.named_parameters():
        digest.update(f"{name}{weight.dtype}{tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
