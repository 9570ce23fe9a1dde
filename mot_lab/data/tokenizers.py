"""The tokenizers of a data configuration, one by one: each fitted on training data, or found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mot_lab.data.prose import ProseSource
from mot_lab.data.scenes import SceneSource
from mot_lab.data.speech import load_spoken, training_transcripts
from mot_lab.data.styles import RENDERINGS
from mot_lab.tokens.image import ImageTokenizer, load_image_tokenizer
from mot_lab.tokens.pictures import Pictures
from mot_lab.tokens.speech import SpeechTokenizer
from mot_lab.tokens.text import TextTokenizer, load_text_tokenizer
from mot_lab.tokens.vq import VQTokenizer

if TYPE_CHECKING:
    from mot_lab.data.prepare import DataConfig

TOKENIZER_SCENES = 4000


def load_texts(config: DataConfig, source: SceneSource) -> TextTokenizer:
    """The text tokenizer, of captions, transcripts and prose."""

    transcripts = training_transcripts(config.speech) if config.speech else []

    def texts() -> list[str]:
        scenes = (source.scene("train", config.seed, i) for i in range(TOKENIZER_SCENES))
        captions = [caption for scene in scenes for caption in source.captions(scene)]
        return captions + transcripts + ProseSource().passages("train")

    modalities = tuple(config.interface().others)
    return load_text_tokenizer(config.text, modalities, texts, [*_scenes_key(config), transcripts])


def load_images(config: DataConfig, source: SceneSource) -> ImageTokenizer | VQTokenizer:
    """The image tokenizer, of the scenes as they are."""
    key, canvas = _scenes_key(config), config.scenes.canvas
    return load_image_tokenizer(config.image, canvas, _pictures(config, source), key)


def load_style(config: DataConfig, source: SceneSource, name: str) -> ImageTokenizer | VQTokenizer:
    """The image tokenizer of a further picture modality, of the scenes in that style."""
    style = config.styles[name]
    pictures = _pictures(config, source)

    def restyled(start: int, count: int) -> Any:
        return RENDERINGS[style.rendering](pictures(start, count))

    key = [*_scenes_key(config), style.rendering]
    return load_image_tokenizer(style.image, config.scenes.canvas, restyled, key)


def load_speech(config: DataConfig, source: SceneSource) -> SpeechTokenizer | None:
    """The speech tokenizer; None without speech."""
    if config.speech is None:
        return None
    return load_spoken(config.speech, source, config.seed, _scenes_key(config))


def _pictures(config: DataConfig, source: SceneSource) -> Pictures:
    return lambda start, count: source.pictures("train", config.seed, start, count)


def _scenes_key(config: DataConfig) -> list[Any]:
    return [config.scenes, config.seed]
