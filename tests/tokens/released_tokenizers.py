"""Small text tokenizers of the makes that are released: the same normalizers, pre-tokenizers,
models, decoders and special tokens, over a vocabulary of a few hundred entries.
"""

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

TEXTS = ["a red heart on yellow", "a fish left of a red heart", "To be, or not to be: that is"] * 5
# Of Llama 3's release: contractions, words, up to three digits, signs, blanks.
LLAMA_3_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama_2() -> Tokenizer:
    """SentencePiece's BPE with byte fallback, as `transformers` converts it: blanks are ``▁``, a
    text begins with one, and bytes 0 to 255 are entries 3 to 258.
    """
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Metaspace()
    learnt.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=60, show_progress=False))
    model = json.loads(learnt.to_str())["model"]
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    tokenizer = Tokenizer(
        models.BPE(
            {entry: place for place, entry in enumerate(entries)},
            [tuple(pair) for pair in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens(
        [AddedToken(each, normalized=False, special=True) for each in ("<unk>", "<s>", "</s>")]
    )
    return tokenizer


def llama_3() -> Tokenizer:
    """tiktoken's BPE over bytes, as `transformers` converts it; special tokens behind."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = _llama_3_pieces()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(TEXTS, trainer)
    model = json.loads(learnt.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    # A word that no merge makes is an entry all the same, and taken whole.
    vocabulary = {**model["vocab"], "123": len(model["vocab"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = _llama_3_pieces()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"]
    )
    begin = ("<|begin_of_text|>", tokenizer.token_to_id("<|begin_of_text|>"))
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[begin]),
        ]
    )
    return tokenizer


def _llama_3_pieces() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(LLAMA_3_PIECES), behavior="isolated")
    return pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )


def t5() -> Tokenizer:
    """SentencePiece's unigrams, lossy: what no piece has is ``<unk>``."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def bert() -> Tokenizer:
    """WordPiece of small letters."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


RELEASED: dict[str, Callable[[], Tokenizer]] = {
    "llama_2": llama_2,
    "llama_3": llama_3,
    "t5": t5,
    "bert": bert,
}


def save_released(make: str, folder: Path) -> PreTrainedTokenizerFast:
    """Write a folder as `transformers` does, and give what it is there."""
    theirs = PreTrainedTokenizerFast(tokenizer_object=RELEASED[make]())
    theirs.save_pretrained(folder)
    return theirs
