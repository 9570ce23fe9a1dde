"""What MLflow takes as the name of a metric or a parameter, and nothing else reaches it.

A name it refuses would keep the whole batch out, for ever: names are changed, not refused.
"""

import posixpath
import re
import unicodedata

LONGEST = 250


def allowed(name: str) -> str:
    """The name with every character that MLflow refuses as ``_``; ``/`` makes sections in its UI.

    >>> allowed("train/grad_norm/text+image"), allowed("/a//b/../c"), allowed("val/image/loss")
    ('train/grad_norm/text_image', 'a/c', 'val/image/loss')
    """
    plain = re.sub(r"[^/\w.\- ]", "_", _ascii(name))
    return posixpath.normpath("/" + plain).lstrip("/")[:LONGEST].rstrip("/ ") or "_"


def from_words(words: str) -> str:
    """One section's part of a name, from words meant for a table.

    >>> from_words("perplexity (unseen emojis), training routing"), from_words("CLIP ViT-B/32")
    ('perplexity unseen emojis training routing', 'CLIP ViT-B-32')
    """
    return " ".join(re.sub(r"[^\w.\-]+", " ", _ascii(words).replace("/", "-")).split())


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
