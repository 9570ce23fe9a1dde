"""All ways of sharing weights between modalities: one line ``all_partitions`` in a study's arms.

All weights of such an arm are shared alike, as in the paper's leave-one-out study (arXiv
2411.04996, figure 15), whose arms are the two-tower ones of three modalities.
"""

from collections.abc import Iterator, Sequence

from mot_lab.backbones.wiring import WEIGHT_KINDS, Partition, named_arms

ALL_PARTITIONS = "all_partitions"


def expand_arms(entries: str | Sequence[object], modalities: Sequence[str]) -> list[object]:
    """The entries of a study's ``arms`` with ``all_partitions`` written out.

    Args:
        entries: what `parse_arm` reads; ``all_partitions``, alone or among them, stands for every
            set partition of the modalities, save those that are listed by their name as well.
        modalities: names in batch order.

    Raises:
        ValueError: one word instead of a list that is not ``all_partitions``.

    Example:
        >>> expand_arms(["moe_4x", "all_partitions"], ["text", "image"])
        ['moe_4x', 'dense', 'mot']
    """
    if isinstance(entries, str):
        if entries != ALL_PARTITIONS:
            raise ValueError(f"{entries!r} must be a list, or {ALL_PARTITIONS}")
        entries = [ALL_PARTITIONS]
    if ALL_PARTITIONS not in entries:
        return list(entries)
    place = list(entries).index(ALL_PARTITIONS)
    others = [*entries[:place], *entries[place + 1 :]]
    partitions = [entry for entry in partition_arms(modalities) if entry not in others]
    return [*others[:place], *partitions, *others[place:]]


def partition_arms(modalities: Sequence[str]) -> list[object]:
    """Every set partition of the modalities as an entry for `parse_arm`, from one tower to many.

    Those that have a name (``dense``, ``mot``, ``loo_x``) stand under it; the others are named
    after their towers, like ``text_image-speech_x``.
    """
    names = tuple(modalities)
    known = {
        _members(arm.wiring.attention): arm.name
        for arm in reversed(named_arms(names).values())
        if not arm.wiring.experts
        and all(getattr(arm.wiring, kind) == arm.wiring.attention for kind in WEIGHT_KINDS)
    }
    found = sorted(_set_partitions(names), key=len)
    return [known.get(_members(one), [list(tower) for tower in one]) for one in found]


def _members(partition: Partition) -> frozenset[frozenset[str]]:
    """The partition whatever its order."""
    return frozenset(map(frozenset, partition))


def _set_partitions(names: tuple[str, ...]) -> Iterator[Partition]:
    """All of them: the last name stands alone, or joins a tower of those of the others."""
    if not names:
        yield ()
        return
    *others, last = names
    for towers in _set_partitions(tuple(others)):
        yield (*towers, (last,))
        for place, tower in reversed(list(enumerate(towers))):
            yield (*towers[:place], (*tower, last), *towers[place + 1 :])
