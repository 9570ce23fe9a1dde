"""Weights that training leaves as they are: chosen towers, and the vocabulary."""

from dataclasses import dataclass, field

from mot_lab.backbones.towers import Towers
from mot_lab.backbones.wiring import WEIGHT_KINDS, Wiring, tower_name
from mot_lab.model import MultimodalModel


@dataclass
class FreezeConfig:
    """What an arm does not train; these weights get no gradient and no optimiser state.

    Attributes:
        towers: names of towers, like ``text`` of MoT; all their weights, in every kind of weight
            that has a tower of that name.
        vocabulary: embedding and output projection, of the joint vocabulary as a whole: the codes
            of pictures and speech with the text.
    """

    towers: list[str] = field(default_factory=list)
    vocabulary: bool = False

    @property
    def active(self) -> bool:
        """Whether anything is frozen."""
        return bool(self.towers) or self.vocabulary

    def sentence(self) -> str:
        """What is not trained.

        Example:
            >>> FreezeConfig(["text"], vocabulary=True).sentence()
            'frozen: tower text, vocabulary'
        """
        parts = [f"tower {name}" for name in self.towers]
        return f"frozen: {', '.join([*parts, *(['vocabulary'] if self.vocabulary else [])])}"

    def require_towers(self, wiring: Wiring) -> None:
        """Raises ValueError where an arm has no tower of a name."""
        partitions = [getattr(wiring, kind) for kind in WEIGHT_KINDS]
        names = dict.fromkeys(tower_name(tower) for towers in partitions for tower in towers)
        for name in self.towers:
            if name not in names:
                raise ValueError(f"freeze.towers {name!r} is none of the towers {list(names)}")


def freeze(net: MultimodalModel, config: FreezeConfig) -> None:
    """Make the chosen weights of a network take no gradients, in place.

    Raises:
        ValueError: nothing would be left to train.
    """
    for module in net.modules():
        if isinstance(module, Towers):
            for name, tower in module.tower.items():
                if name in config.towers:
                    tower.requires_grad_(False)
    if config.vocabulary:
        net.autoregressive.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise ValueError(f"freeze leaves nothing to train ({config.sentence()})")
