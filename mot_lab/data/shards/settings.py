"""What shards depend on, and what is refused: other settings, bad records, empty splits."""

import json
from typing import TYPE_CHECKING, Any

from mot_lab.data.shards.manifest import SPLITS, Manifest, summed
from mot_lab.plain import plain
from mot_lab.runtime.run_folder import flatten

if TYPE_CHECKING:
    from mot_lab.data.prepare import DataConfig

UNBOUND = ("weight",)  # of a source: shards are the same for any


def shard_settings(config: "DataConfig") -> dict[str, Any]:
    """All of a configuration that shards depend on, as plain values."""
    sources = [
        {name: value for name, value in plain(each).items() if name not in UNBOUND}
        for each in config.sources
    ]
    speech = config.speech
    return {
        "sources": sources,
        "canvas": config.scenes.canvas,
        "text": plain(config.text),
        "image": plain(config.image),
        "speech": None if speech is None else plain(speech.tokenizer),
        "max_seconds": None if speech is None else speech.max_seconds,
        "latents": config.latents,
    }


def require_same(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Raises ValueError where shards were made of other settings: with the first that differs."""
    ours, theirs = (flatten(json.loads(json.dumps(each))) for each in (wanted, found))
    for name in [*theirs, *ours]:
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"{where} was prepared with {name} {theirs.get(name, 'absent')}, the "
                f"configuration says {ours.get(name, 'absent')}: give another folder, or remove it"
            )


def require_usable(config: "DataConfig", manifest: Manifest) -> None:
    """Raises ValueError where more of a source was skipped than ``unusable`` allows, or where a
    split has no documents.
    """
    for number, name in enumerate(manifest.source_names):
        parts = [each for split in SPLITS for each in manifest.of(split, number)]
        skipped = summed([each.skipped for each in parts])
        bad, good = sum(skipped.values()), sum(each.documents for each in parts)
        if bad > config.unusable * (bad + good):
            first = next(example for each in parts for example in each.examples)
            raise ValueError(
                f"{bad:,} of {bad + good:,} records of {name} cannot be used, unusable allows "
                f"{config.unusable:g} of them ({reasons(skipped)}); the first: {first}"
            )
    for split in SPLITS:
        if not any(each.documents for parts in manifest.parts[split] for each in parts):
            raise ValueError(
                f"sources: none of them has a document in the split {split}: give one files of "
                f"its own ({split}), or a larger held_out"
            )


def reasons(counts: dict[str, int]) -> str:
    """Counts by reason, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
