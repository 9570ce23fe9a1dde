"""From a configuration to everything training and evaluation read: tokenizers, documents, pairs."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from mot_lab.data.documents import Mixture, Stream
from mot_lab.data.interface import Codes, DataInterface, Latents
from mot_lab.data.packing import Layout
from mot_lab.data.pairs import Pairs
from mot_lab.data.scenes import MOST_PIXELS, ScenesConfig
from mot_lab.data.scenes import SPLITS as SCENE_SPLITS
from mot_lab.data.shards.manifest import SPLITS as SOURCE_SPLITS
from mot_lab.data.sources.config import SourceConfig
from mot_lab.data.speech import SpeechConfig
from mot_lab.data.speech_pool import SpeechPool
from mot_lab.data.styles import StyleConfig
from mot_lab.limits import MOST_PLACES, MOST_SEED, MOST_THINGS, require_between, require_share
from mot_lab.parsing import shown, under
from mot_lab.runtime.cache import content_key
from mot_lab.tokens.image import ImageTokenizer, ImageTokenizerConfig
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.text import TextTokenizer, TextTokenizerConfig, least_vocabulary
from mot_lab.tokens.vq import VQTokenizer

FRAME = 4  # begin and end tokens of a block and of its document
MOST_BATCH = 2**28  # places of a batch; the paper's largest has 3.1 million
MOST_STYLES = 3  # an arm may be any partition of the modalities
TAKEN = ("text", "image", "speech", "total")  # modalities, and what their losses come to
SPEECH_KINDS = ("speech", "units")  # of sources


@dataclass
class DataConfig:
    """What the model sees, the same for every arm and seed of a study: scenes, prose and spoken
    captions, or, where there are ``sources`` or ``prepared``, people's own data and nothing else.

    Attributes:
        scenes: size of the pictures; of own data, too, ``canvas`` is the side of every picture.
        text, image: the tokenizers.
        speech: spoken captions or recordings; None is no speech.
        styles: further picture modalities, by name.
        patch: side of an image token, in latent positions; of no meaning for discrete codes.
        train_scenes: how many different scenes training draws from.
        eval_scenes: how many scenes each held-out split has.
        prose_share: of the drawn documents without speech or styles, those that are prose; gaps at
            the ends of rows are filled with prose besides.
        caption_first: share of pairs with the caption before the picture (80%: Transfusion).
        caption_dropout: share of those pairs that lose their caption, for classifier-free guidance
            (no source gives MoT's).
        row_length: S, tokens per row.
        rows: B, rows per batch.
        val_rows: rows of validation, with the same noise at every evaluation.
        seed: of the scenes and of validation; the order of training has the run's own seed.
        sources: own data, each source drawn by its weight; empty, the default, is the scenes.
        prepared: folder or URL that ``mot-lab data prepare`` fills from the sources, and that is
            trained from; None prepares them in the cache. Where ``sources`` is left out, those
            that it was filled from count.
        unusable: share of a source's records that may be unreadable; they are counted and left
            out. More of them mean wrong paths or fields rather than a bad file.
        latents: number type that latents of sources are kept in. float16 halves the folder and
            rounds by at most 1/2048 of a value, far less than any autoencoder loses.

    Of own data there is no ``prose_share``, no ``styles``, and of ``speech`` only ``directions``,
    ``max_seconds`` and ``tokenizer`` count: what is drawn how often is said by weights.
    """

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    text: TextTokenizerConfig = field(default_factory=TextTokenizerConfig)
    image: ImageTokenizerConfig = field(default_factory=ImageTokenizerConfig)
    speech: SpeechConfig | None = None
    styles: dict[str, StyleConfig] = field(default_factory=dict)
    patch: int = 1
    train_scenes: int = 20_000
    eval_scenes: int = 1_000
    prose_share: float = 0.1
    caption_first: float = 0.8
    caption_dropout: float = 0.0
    row_length: int = 128
    rows: int = 16
    val_rows: int = 64
    seed: int = 0
    sources: list[SourceConfig] = field(default_factory=list)
    prepared: str | None = None
    unusable: float = 0.01
    latents: Literal["float16", "float32"] = "float16"

    def __post_init__(self) -> None:
        require_share(self, "prose_share", "caption_first", "caption_dropout", "unusable")
        require_between(self, 1, MOST_PIXELS, "patch")
        require_between(self, 1, MOST_THINGS, "train_scenes", "eval_scenes")
        require_between(self, 1, MOST_PLACES, "row_length", "rows", "val_rows")
        require_between(self, 0, MOST_SEED, "seed")
        if self.val_rows % self.rows:
            raise ValueError(f"val_rows {self.val_rows} must be a multiple of rows {self.rows}")
        for name in self.styles:
            if not re.fullmatch(r"[a-z][a-z0-9]*", name) or name in TAKEN:
                raise ValueError(
                    f"styles: a modality cannot be called {name!r}; give small letters and digits, "
                    f"other than {', '.join(TAKEN)}"
                )
        if len(self.styles) > MOST_STYLES:
            raise ValueError(f"styles {list(self.styles)} must be at most {MOST_STYLES}")
        self._require_sources()
        self._require_room()

    @property
    def own(self) -> bool:
        """Whether the data is people's own, not the scenes."""
        return bool(self.sources) or self.prepared is not None

    @property
    def own_by(self) -> str:
        """The setting that makes it so, for messages."""
        paths = [each.path for each in self.sources]
        return (
            f"data.prepared {shown(self.prepared)}"
            if self.prepared is not None
            else f"data.sources {shown(paths)}"
        )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, training first."""
        return SOURCE_SPLITS if self.own else SCENE_SPLITS

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the splits that are not trained on."""
        return self.splits[1:]

    def _require_sources(self) -> None:
        if self.prepared == "":
            raise ValueError("prepared '' names nothing: give a folder or a URL, or leave it out")
        if self.own and self.styles:
            raise ValueError(
                f"styles {list(self.styles)} are of scenes, {self.own_by} is own data: it must "
                f"have none"
            )
        if not self.sources:
            return
        spoken = [each.kind for each in self.sources if each.kind in SPEECH_KINDS]
        if spoken and self.speech is None:
            raise ValueError(
                f"speech None must be settings: a source of kind {spoken[0]} needs them, like {{}}"
            )
        if self.speech is not None and not spoken:
            raise ValueError(
                f"speech must be None: {self.own_by} has no source of kind speech or units"
            )

    def _require_room(self) -> None:
        """What is known of documents and vocabulary before there are any; how long captions are
        is seen when they are prepared.
        """
        if self.rows * self.row_length > MOST_BATCH:
            raise ValueError(
                f"rows {self.rows} of row_length {self.row_length} must be at most {MOST_BATCH:,} "
                "places together"
            )
        interface = self.interface()
        for name, each in interface.others.items():
            places = (each.length or 1) + FRAME
            if places + 1 > self.row_length:
                of = f" (scenes.canvas {self.scenes.canvas})" if each.length else ""
                raise ValueError(
                    f"row_length {self.row_length} must be at least {places + 1}: a block of "
                    f"{name}{of} takes {places} tokens, and something stands beside it"
                )
        least = least_vocabulary(list(interface.others))
        if self.text.path is None and self.text.vocab_size < least:
            raise ValueError(
                f"text.vocab_size {self.text.vocab_size} must be at least {least}: 256 bytes and "
                f"{least - 256} special tokens"
            )

    def interface(self) -> DataInterface:
        """What a model must know, without preparing anything."""
        others = {"image": self._pictures("image", self.image)}
        if self.speech is not None:
            with under("speech.tokenizer.path"):
                others["speech"] = Codes(self.speech.tokenizer.vocabulary())
        for name, style in self.styles.items():
            others[name] = self._pictures(f"styles.{name}.image", style.image)
        with under("text.path"):
            vocabulary = self.text.vocabulary(tuple(others))
        return DataInterface(vocabulary, others)

    def _pictures(self, where: str, image: ImageTokenizerConfig) -> Codes | Latents:
        with under(where if image.path is None else f"{where}.path {shown(image.path)}"):
            if image.kind == "vq":
                return Codes(*image.codes(self.scenes.canvas))
            shape = image.latent_shape(self.scenes.canvas)
        if shape[1] % self.patch or shape[2] % self.patch:
            raise ValueError(
                f"patch {self.patch} must divide the {shape[1]} x {shape[2]} positions of the "
                f"latents of {where}"
            )
        return Latents(shape, self.patch)


@dataclass(frozen=True)
class PreparedData(ABC):
    """Everything that is read while training and evaluating.

    Attributes:
        config, interface: what there should be.
        texts, images, styles, speech: the tokenizers.
        layout: of the rows.
    """

    config: DataConfig
    interface: DataInterface
    texts: TextTokenizer
    images: ImageTokenizer | VQTokenizer
    styles: Mapping[str, ImageTokenizer | VQTokenizer]
    speech: SpeechTokenizer | None
    layout: Layout

    @abstractmethod
    def stream(self, split: str) -> Stream:
        """The documents of a split."""

    @abstractmethod
    def pairs(self, split: str) -> Pairs | None:
        """The pictures with captions of a split that metrics are measured on; None without any."""

    @abstractmethod
    def pictures(self, split: str, start: int, count: int) -> np.ndarray:
        """Pictures ``start .. start + count`` of a split, or as many as there are of them, before
        they were encoded: uint8 [count, H, W, 3].
        """

    @abstractmethod
    def speech_pool(self, split: str) -> SpeechPool | None:
        """The recordings of a split; None without speech."""

    def require_pairs(self, count: int) -> None:
        """Raises ValueError where the test split has pictures with captions, but fewer of them."""
        return  # of scenes there is no end

    def notes(self) -> list[str]:
        """What a report must say of records that are not among the documents."""
        return []

    @property
    def mixture(self) -> Mixture:
        """What is drawn how often, as far as weights of sources do not say it."""
        config = self.config
        return Mixture(
            config.prose_share,
            config.caption_first,
            config.caption_dropout,
            config.speech.share if config.speech else 0.0,
            tuple(config.speech.directions) if config.speech else (),
            {name: style.share for name, style in config.styles.items()},
        )

    @cached_property
    def key(self) -> str:
        """What tells this data from other data, the content of tokenizer files included."""
        parts = [self.images, *self.styles.values(), *([self.speech] if self.speech else [])]
        tokenizers = [self.texts.key(), *(each.fingerprint for each in parts)]
        return content_key([self.config, tokenizers, *self._more_key()])

    def _more_key(self) -> list[str]:
        """What else tells it."""
        return []

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreparedData) and self.key == other.key

    def require_as_configured(self) -> None:
        """Raises ValueError where the data turned out to be other than the model was told."""
        found: dict[str, Codes | Latents] = {}
        for name, tokenizer in {"image": self.images, **self.styles}.items():
            if isinstance(tokenizer, VQTokenizer):
                found[name] = Codes(tokenizer.size, tokenizer.length)
            elif (expected := self.interface.latents) is not None:
                found[name] = Latents(tokenizer.latent_shape, expected.patch)
        if self.speech is not None:
            found["speech"] = Codes(self.speech.size)
        interface = self.interface
        other = any(interface.others.get(name) != part for name, part in found.items())
        if self.texts.vocab_size > interface.text_vocabulary or other:
            raise ValueError(
                f"tokenizers give {self.texts.vocab_size} tokens of text and {found}, the "
                f"configuration says {interface.text_vocabulary} and {dict(interface.others)}"
            )


def prepare(config: DataConfig) -> PreparedData:
    """Render or read, fit and load what a configuration names; the second call finds it in the
    cache.
    """
    # both build on what is above
    if config.own:
        from mot_lab.data.own_data import prepare_own

        return prepare_own(config)
    from mot_lab.data.scene_data import prepare_scenes

    return prepare_scenes(config)
