"""People's own data, prepared: documents, pairs and recordings read from shards.

Shapes: N pictures of H x W pixels, n tokens or units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from mot_lab.data.documents import CodeSegment, ImageSegment, TextSegment
from mot_lab.data.packing import Layout
from mot_lab.data.pairs import caption_of
from mot_lab.data.prepare import DataConfig, PreparedData
from mot_lab.data.shards.checking import read_manifest, whole_shards
from mot_lab.data.shards.documents import SourceDocuments
from mot_lab.data.shards.manifest import TOKENIZERS, Manifest, summed
from mot_lab.data.shards.part import StoredDocument
from mot_lab.data.shards.settings import reasons, require_same, require_usable, shard_settings
from mot_lab.data.shards.stream import MixtureStream
from mot_lab.data.shards.tokenizers import kept_tokenizers
from mot_lab.data.shards.writing import cached_shards
from mot_lab.data.speech_pool import SpeechPool
from mot_lab.runtime.workers import cores
from mot_lab.tokens.text import TextTokenizer

ONLY_SCENES = (
    "The data is own data: the exact checker, which reads scenes, and the split of unseen emojis "
    "are left out."
)
SHUFFLE = 1  # sets the order of held-out pairs apart from other draws of the same seed


@dataclass(frozen=True, eq=False)
class OwnData(PreparedData):
    """Documents of the sources of a configuration.

    Attributes:
        url: folder or URL of the prepared shards.
        manifest: of them.
    """

    url: str
    manifest: Manifest

    def documents(self, split: str) -> list[SourceDocuments]:
        """Of every source, the documents of a split that rows have room for."""
        return _documents(self, split)

    def stream(self, split: str) -> MixtureStream:
        """The documents of a split, mixed by the weights of the sources that have some.

        Raises:
            ValueError: no row has room for any document of a source that has some.
        """
        weights = [each.weight for each in self.config.sources] or self.manifest.weights
        found = [
            (documents, weight)
            for documents, weight in zip(self.documents(split), weights, strict=True)
            if documents.parts
        ]
        sources = [documents for documents, _ in found]
        return MixtureStream(sources, [weight for _, weight in found], self.mixture, self.layout)

    def pairs(self, split: str) -> "OwnPairs | None":
        """Pictures with captions, in one random order; None without any."""
        found = _pairs(self, split)
        return found if len(found) else None

    def require_pairs(self, count: int) -> None:
        """Raises ValueError where the test split has pictures with captions, but fewer of them."""
        pairs = self.pairs("test")
        if pairs is not None and len(pairs) < count:
            raise ValueError(
                f"evaluation.images {count // 2} needs {count} pictures with captions in the test "
                f"split, half of them for Fréchet distances to be taken to; there are "
                f"{len(pairs)}: lower it, or hold out more"
            )

    def pictures(self, split: str, start: int, count: int) -> np.ndarray:
        """Pictures of the test split, those of pairs first."""
        assert split == "test", "other splits keep no pictures"
        if (pairs := self.pairs(split)) is not None:
            return pairs.pictures(start, count)
        found: list[np.ndarray] = []
        for source in self.documents(split):
            for part in source.parts:
                found += part.pixels[: start + count - len(found)]
        canvas = self.images.canvas
        return np.array(found[start:], np.uint8).reshape(-1, canvas, canvas, 3)

    def speech_pool(self, split: str) -> SpeechPool | None:
        """The recordings of a held-out split that have a transcript; None where there are none."""
        return _speech_pool(self, split)

    def left_out(self, split: str) -> list[dict[str, int]]:
        """How many records of each source are not among a split's documents, by reason."""
        counts = []
        for number, documents in enumerate(self.documents(split)):
            parts = self.manifest.of(split, number)
            too_long = {"longer than a row": documents.too_long} if documents.too_long else {}
            every = [summed([each.skipped, each.left_out]) for each in parts]
            counts.append(summed([*every, too_long]))
        return counts

    def notes(self) -> list[str]:
        """What only scenes have, and a sentence on every source with records left out."""
        return [ONLY_SCENES, *self.records_left_out()]

    def records_left_out(self) -> list[str]:
        """A sentence on every source and split with records left out."""
        notes = []
        for number, name in enumerate(self.manifest.source_names):
            for split in self.config.splits:
                counts = self.left_out(split)[number]
                if counts:
                    used = len(self.documents(split)[number])
                    notes.append(
                        f"{name}, {split}: {used:,} documents; left out {reasons(counts)}."
                    )
        return notes

    def _more_key(self) -> list[str]:
        return [self.manifest.digest]


class OwnPairs:
    """Pictures with captions of a split, in an order drawn once, as `Pairs`.

    Args:
        sources: of the split.
        texts: whose tokens the captions are.
        seed: of the order.
    """

    def __init__(self, sources: Sequence[SourceDocuments], texts: TextTokenizer, seed: int) -> None:
        self._texts = texts
        found = [(source, int(number)) for source in sources for number in source.of_kinds("pairs")]
        order = np.random.default_rng((seed, SHUFFLE)).permutation(len(found))
        self._places = [found[place] for place in order]

    def __len__(self) -> int:
        return len(self._places)

    def references(self, place: int) -> list[str]:
        """Every caption of a picture."""
        return [self._texts.decode(ids.tolist()) for ids in self._captions(place)]

    def prompt(self, place: int) -> str:
        """One of them."""
        return caption_of(self.references(place), place)

    def pictures(self, start: int, count: int) -> np.ndarray:
        """Pictures before they were encoded, as many as there are: uint8 [N, H, W, 3]."""
        found = []
        for source, number in self._places[start : start + count]:
            part, place = source.place(number)
            found.append(part.pixels[part.document(place).pictures.start])
        return np.stack(found)

    def encoded(self, count: int) -> np.ndarray:
        """The first pictures as the image tokenizer gives them."""
        found = []
        for place in range(count):
            segments = self._stored(place).segments
            (picture,) = (each for each in segments if not isinstance(each, TextSegment))
            found.append(
                picture.latents_CHW if isinstance(picture, ImageSegment) else picture.codes
            )
        return np.stack(found)

    @cached_property
    def longest_caption(self) -> int:
        """Tokens of the longest caption."""
        return max(len(ids) for place in range(len(self)) for ids in self._captions(place))

    def _captions(self, place: int) -> list[np.ndarray]:
        segments = self._stored(place).segments
        return [each.ids for each in segments if isinstance(each, TextSegment)]

    def _stored(self, place: int) -> StoredDocument:
        source, number = self._places[place]
        return source.document(number)


@lru_cache(maxsize=16)
def _documents(data: OwnData, split: str) -> list[SourceDocuments]:
    root = whole_shards(data.url, data.manifest)
    found = []
    for number, name in enumerate(data.manifest.source_names):
        parts = data.manifest.of(split, number)
        documents = SourceDocuments(root, parts, data.layout)
        if documents.parts and not len(documents):
            raise ValueError(
                f"row_length {data.layout.length} is too short: none of the "
                f"{documents.too_long:,} documents of {name}, {split}, fits a row"
            )
        found.append(documents)
    return found


@lru_cache(maxsize=16)
def _pairs(data: OwnData, split: str) -> OwnPairs:
    return OwnPairs(data.documents(split), data.texts, data.config.seed)


@lru_cache(maxsize=16)
def _speech_pool(data: OwnData, split: str) -> SpeechPool | None:
    units, texts = [], []
    for source in data.documents(split):
        for number in source.of_kinds("speech"):
            segments = source.document(int(number)).segments
            said = [each.ids for each in segments if isinstance(each, TextSegment)]
            if said:
                texts.append(said[0].astype(np.int32))
                blocks = (each for each in segments if isinstance(each, CodeSegment))
                units.append(next(each.codes for each in blocks if each.modality == "speech"))
    if not units:
        return None
    return SpeechPool(
        unit_tokens=np.concatenate(units),
        unit_offsets=np.cumsum([0, *map(len, units)]),
        text_tokens=np.concatenate(texts),
        text_offsets=np.cumsum([0, *map(len, texts)]),
        sentences=[data.texts.decode(ids.tolist()) for ids in texts],
        left_out={},
        pictures=np.zeros(0, np.float32),
        picture_rows=np.full(len(units), -1),
    )


def prepare_own(config: DataConfig) -> OwnData:
    """The prepared shards of a configuration; without a folder of their own, made in the cache.

    Raises:
        ValueError: there are none, they are of other settings, or more of a source is unreadable
            than ``unusable`` allows.
    """
    if config.prepared is None:
        url, manifest = cached_shards(config, cores())
    else:
        url, manifest = config.prepared, read_manifest(config.prepared)
    wanted = shard_settings(config)
    if not config.sources:
        wanted["sources"] = manifest.settings["sources"]
    require_same(manifest.settings, wanted, url)
    require_usable(config, manifest)
    root = whole_shards(url, manifest, TOKENIZERS)
    kept = kept_tokenizers(config, root / TOKENIZERS)
    require_same(manifest.tokenizers, kept.fingerprints(), url)
    layout = Layout.of(kept.texts, config.row_length, config.interface())
    data = OwnData(
        config,
        config.interface(),
        kept.texts,
        kept.images,
        {},
        kept.speech,
        layout,
        url,
        manifest,
    )
    data.require_as_configured()
    return data
