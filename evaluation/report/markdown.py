"""A report as Markdown, with links to the figures and tables beside it."""

import re
from collections.abc import Sequence

from evaluation.report.blocks import (
    Alert,
    Block,
    Code,
    Links,
    Picture,
    Points,
    Section,
    Sounds,
    Table,
    Text,
)
from evaluation.wording import show


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The report as one Markdown document."""
    parts = [f"# {escape(title)}"]
    for section in sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    r"""Text in which Markdown and HTML signs stand for themselves.

    Example:
        >>> escape("a*b <i>")
        'a\\*b &lt;i>'
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def _block(block: Block) -> str:
    match block:
        case Text(body):
            return escape(body)
        case Alert(body):
            return f"> **{escape(body)}**"
        case Points(items):
            return "\n".join(f"- {escape(item)}" for item in items) or "- none"
        case Links(items):
            return "\n".join(f"- [{escape(what)}]({to})" for what, to in items)
        case Code(title, body):
            fence = "`" * (max([2, *(len(run) for run in re.findall("`+", body))]) + 1)
            return f"### {escape(title)}\n\n{fence}\n{body.rstrip()}\n{fence}"
        case Picture(name, title, read, made):
            link = f"![{escape(title)}](figures/{name}.png)"
            return f"### {escape(title)}\n\n{link}\n\n{escape(read)} {escape(made)}"
        case Table():
            return _table(block)
        case Sounds():
            return _sounds(block)


def _sounds(block: Sounds) -> str:
    lines = ["| " + " | ".join(map(escape, block.columns)) + " |"]
    lines.append("|" + " --- |" * len(block.columns))
    for i, row in enumerate(block.rows):
        cells = [
            f"[listen]({block.file(i, j)})" if isinstance(cell, bytes) else escape(show(cell))
            for j, cell in enumerate(row)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return f"### {escape(block.title)}\n\n" + "\n".join(lines)


def _table(table: Table) -> str:
    table = table.without_pictures()
    link = f"[tables/{table.name}.csv](tables/{table.name}.csv)"
    if table.folded:
        return f"### {escape(table.title)}\n\nA long table: {link}"
    lines = ["| " + " | ".join(map(escape, table.columns)) + " |"]
    lines.append("|" + " --- |" * len(table.columns))
    lines += ["| " + " | ".join(escape(show(cell)) for cell in row) + " |" for row in table.rows]
    return f"### {escape(table.title)}\n\n" + "\n".join(lines) + f"\n\nIn full: {link}"
