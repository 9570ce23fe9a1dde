"""The arms: which modalities share which weights, as data.

A `Wiring` gives, for each kind of weight, a partition of the modalities into *towers*. Dense puts
all modalities in one tower, Mixture-of-Transformers (MoT, arXiv 2411.04996) gives each its own,
and everything between is a partition as well. A tower's feed-forward may hold several experts
(expert choice, arXiv 2202.09368).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, permutations

from mot_lab.parsing import shown

Tower = tuple[str, ...]
Partition = tuple[Tower, ...]

MOST_EXPERTS = 1024
WEIGHT_KINDS = ("attention", "output", "feed_forward", "norms")


def tower_name(tower: Tower) -> str:
    """``("text", "image")`` is called ``text_image`` in parameter names and logs."""
    return "_".join(tower)


@dataclass(frozen=True)
class Wiring:
    """Which modalities share each kind of weight.

    Attributes:
        modalities: names in the order of their ids in a batch (0 = text).
        attention: towers of the Q, K and V projections.
        feed_forward: towers of the SwiGLU feed-forwards.
        norms: towers of the layer norms, the QK-norms and the final norm.
        experts: number of expert-choice experts by name of the feed-forward tower; a tower that is
            not named has a plain feed-forward.
        output: towers of the O projection; left out, those of Q, K and V.

    Raises:
        ValueError: a partition misses, repeats or invents a modality; an expert count names no
            tower; or no order of the modalities makes every tower contiguous.
    """

    modalities: tuple[str, ...]
    attention: Partition
    feed_forward: Partition
    norms: Partition
    experts: Mapping[str, int] = field(default_factory=dict)
    output: Partition = ()

    def __post_init__(self) -> None:
        if not self.output:
            object.__setattr__(self, "output", self.attention)
        for kind in WEIGHT_KINDS:
            towers = [list(tower) for tower in getattr(self, kind)]
            if sorted(name for tower in towers for name in tower) != sorted(self.modalities):
                raise ValueError(
                    f"{kind}: {shown(towers)} must name each of the modalities "
                    f"{list(self.modalities)} exactly once"
                )
        names = [tower_name(tower) for tower in self.feed_forward]
        for tower, count in self.experts.items():
            if tower not in names:
                raise ValueError(
                    f"experts: {shown(tower)} is no feed-forward tower; there are {names}"
                )
            if isinstance(count, bool) or not isinstance(count, int):
                raise ValueError(
                    f"experts: tower {tower!r} has {shown(count)}, needs a whole number"
                )
            if not 1 <= count <= MOST_EXPERTS:
                raise ValueError(
                    f"experts: tower {tower!r} has {shown(count)} experts, needs at least 1 and at "
                    f"most {MOST_EXPERTS}"
                )
        _ = self.cells  # fails here, not in the middle of a run

    @cached_property
    def cells(self) -> Partition:
        """The groups tokens are sorted into: modalities that share all weights stay together, and
        the order makes every tower of every kind a contiguous run of cells."""
        signature = {
            name: tuple(_index_of(getattr(self, kind), name) for kind in WEIGHT_KINDS)
            for name in self.modalities
        }
        cells: list[list[str]] = []
        for name in self.modalities:
            for cell in cells:
                if signature[cell[0]] == signature[name]:
                    cell.append(name)
                    break
            else:
                cells.append([name])
        for order in permutations(cells):
            if all(self._contiguous(order, getattr(self, kind)) for kind in WEIGHT_KINDS):
                return tuple(tuple(cell) for cell in order)
        raise ValueError(
            f"no order of {list(self.modalities)} makes all towers of attention={self.attention}, "
            f"output={self.output}, feed_forward={self.feed_forward}, norms={self.norms} "
            f"contiguous; use partitions of which one refines the other"
        )

    @staticmethod
    def _contiguous(order: Sequence[Sequence[str]], partition: Partition) -> bool:
        towers = [_index_of(partition, cell[0]) for cell in order]
        changes = sum(a != b for a, b in pairwise(towers))
        return changes == len(set(towers)) - 1

    def ordered(self, kind: str) -> tuple[tuple[Tower, tuple[int, ...]], ...]:
        """The towers of a kind in grouped order, each with the indices of its cells."""
        partition: Partition = getattr(self, kind)
        cell_tower = [_index_of(partition, cell[0]) for cell in self.cells]
        seen = list(dict.fromkeys(cell_tower))
        return tuple(
            (partition[t], tuple(i for i, owner in enumerate(cell_tower) if owner == t))
            for t in seen
        )


def _index_of(partition: Partition, name: str) -> int:
    return next(i for i, tower in enumerate(partition) if name in tower)


@dataclass(frozen=True)
class Arm:
    """A named wiring in a study, with one line that says what it is."""

    name: str
    description: str
    wiring: Wiring


def _shared(modalities: tuple[str, ...]) -> Partition:
    return (modalities,)


def _separate(modalities: tuple[str, ...]) -> Partition:
    return tuple((name,) for name in modalities)


def _uniform(modalities: tuple[str, ...], towers: Partition, experts: Mapping[str, int]) -> Wiring:
    return Wiring(modalities, towers, towers, towers, experts)


def named_arms(modalities: Sequence[str]) -> dict[str, Arm]:
    """Every arm that has a name, for these modalities (paper: figures 5-17).

    ``moe_2x``, ``moe_3x``, ``moe_4x`` are examples of ``moe_<E>x``, which `parse_arm` accepts for
    any number of experts E; likewise ``mot_text_moe_<E>x``.

    The paper's component ablation (figure 14) unties "feed-forward", "+ Q, K, V", "+ norms" and
    does not say whether O goes with Q, K, V. Here it does in ``untie_ffn_qkv``, as one projection
    of one attention block; ``untie_ffn_qkv_shared_o`` is the other reading.
    """
    names = tuple(modalities)
    shared, separate = _shared(names), _separate(names)
    one = tower_name(names)
    arms = [
        Arm("dense", "one tower for all modalities: the baseline", _uniform(names, shared, {})),
        Arm("mot", "a tower per modality for all weights", _uniform(names, separate, {})),
        Arm(
            "untie_ffn",
            "feed-forward per modality, attention and norms shared",
            Wiring(names, shared, separate, shared),
        ),
        Arm(
            "untie_ffn_qkv",
            "feed-forward and Q, K, V, O per modality, norms shared",
            Wiring(names, separate, separate, shared),
        ),
        Arm(
            "untie_ffn_qkv_shared_o",
            "feed-forward and Q, K, V per modality, O and norms shared",
            Wiring(names, separate, separate, shared, output=shared),
        ),
    ]
    for experts in (2, 3, 4):
        arms.append(
            Arm(
                f"moe_{experts}x",
                f"one tower, feed-forward of {experts} expert-choice experts",
                _uniform(names, shared, {one: experts}),
            )
        )
    arms.append(
        Arm(
            "mot_text_moe_4x",
            "a tower per modality, 4 expert-choice experts in the text tower",
            _uniform(names, separate, {"text": 4} if "text" in names else {}),
        )
    )
    if len(names) > 2:
        for name in names:
            others = tuple(other for other in names if other != name)
            arms.append(
                Arm(
                    f"loo_{name}",
                    f"{name} isolated in its own tower, the others share one",
                    _uniform(names, (others, (name,)), {}),
                )
            )
    return {arm.name: arm for arm in arms}


def parse_arm(spec: object, modalities: Sequence[str]) -> Arm:
    """An arm from its line in a configuration.

    Args:
        spec: a name (``mot``), a partition (``[[text], [image]]``), or one named entry
            ``{name: partition}`` or ``{name: {attention: .., output: .., feed_forward: ..,
            norms: .., experts: {tower: E}}}``; a weight kind that is left out has one shared
            tower, ``output`` those of ``attention``.
        modalities: names in batch order.

    Raises:
        ValueError: an unknown name (the known ones are listed) or a partition that does not fit.
    """
    names = tuple(modalities)
    if isinstance(spec, str):
        return _named(spec, names)
    if isinstance(spec, Sequence):
        towers = _partition(spec)
        label = "-".join(tower_name(tower) for tower in towers)
        return Arm(label, f"towers {spec}", _uniform(names, towers, {}))
    if isinstance(spec, Mapping) and len(spec) == 1:
        (name, value), *_ = spec.items()
        if isinstance(value, Mapping):
            unknown = set(value) - {*WEIGHT_KINDS, "experts"}
            if unknown:
                raise ValueError(
                    f"arm {shown(name)}: unknown {sorted(map(shown, unknown))}; "
                    f"there are {[*WEIGHT_KINDS, 'experts']}"
                )
            kinds = {
                kind: _partition(value[kind]) if kind in value else _shared(names)
                for kind in WEIGHT_KINDS
                if kind in value or kind != "output"  # which is that of the attention
            }
            wiring = Wiring(names, **kinds, experts=_experts(value.get("experts", {})))
        else:
            wiring = _uniform(names, _partition(value), {})
        return Arm(str(name), f"{value}", wiring)
    raise ValueError(
        f"arm {shown(spec)} must be a name, a partition like [[text], [image]], "
        f"or one entry {{name: partition}}"
    )


def _named(name: str, names: tuple[str, ...]) -> Arm:
    arms = named_arms(names)
    if name in arms:
        return arms[name]
    if match := re.fullmatch(r"(mot_text_)?moe_(\d{1,6})x", name):
        experts = int(match[2])
        text_only = bool(match[1])
        towers = _separate(names) if text_only else _shared(names)
        tower = "text" if text_only else tower_name(names)
        description = f"{experts} expert-choice experts in tower {tower}"
        return Arm(name, description, _uniform(names, towers, {tower: experts}))
    raise ValueError(f"unknown arm {shown(name)}; known for {list(names)}: {', '.join(arms)}")


def _experts(value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"experts: {shown(value)} must be a mapping of towers to numbers of experts"
        )
    return dict(value)


def _partition(value: object) -> Partition:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(f"{shown(value)} is no partition; write it like [[text], [image]]")
    for tower in value:
        if not isinstance(tower, Sequence) or isinstance(tower, str) or not tower:
            raise ValueError(
                f"tower {shown(tower)} must be a list of modalities, like [text, image]"
            )
    return tuple(tuple(str(name) for name in tower) for tower in value)
