"""A report as one HTML file: pictures are inside, nothing is fetched."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

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
from evaluation.wording import Cell, show

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 1120px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.8rem; } h2 { margin-top: 3rem; border-bottom: 2px solid #ddd; }
h3 { margin-top: 2rem; font-size: 1.05rem; }
nav { background: #f5f6f8; padding: .6rem 1.2rem; border-radius: 6px; }
nav ol { margin: 0; columns: 2; }
figure { margin: 1.2rem 0; } figure > img { max-width: 100%; }
figcaption { color: #333; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #e2e2e2; text-align: left;
  vertical-align: top; max-width: 26rem; }
th { background: #f5f6f8; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child { white-space: nowrap; }
td audio { width: 12rem; height: 2rem; }
td img { width: 72px; image-rendering: pixelated; }
p.alert { background: #fff1e0; border-left: 6px solid #d55e00; padding: .6rem 1rem;
  font-weight: 600; }
summary { cursor: pointer; }
pre { background: #f5f6f8; padding: 1rem; overflow-x: auto; font-size: .82rem; }
"""


def to_html(title: str, sections: Sequence[Section], figures: Mapping[str, bytes]) -> str:
    """The report as one HTML document.

    Args:
        title: the document's title.
        sections: what stands in it.
        figures: the PNG of every ``Picture``, by its name.
    """
    links = "".join(
        f'<li><a href="#{escape(one.anchor)}">{escape(one.title)}</a></li>' for one in sections
    )
    body = "\n".join(
        f'<section id="{escape(one.anchor)}">\n<h2>{escape(one.title)}</h2>\n'
        + "\n".join(_block(block, figures) for block in one.blocks)
        + "\n</section>"
        for one in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<nav aria-label="Contents"><ol>{links}</ol></nav>\n'
        f"{body}\n</body>\n</html>\n"
    )


def _block(block: Block, figures: Mapping[str, bytes]) -> str:
    match block:
        case Text(body):
            return f"<p>{escape(body)}</p>"
        case Alert(body):
            return f'<p class="alert" role="alert">{escape(body)}</p>'
        case Points(items):
            return (
                "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items or ["none"]) + "</ul>"
            )
        case Links(items):
            links = (f'<li><a href="{escape(to)}">{escape(what)}</a></li>' for what, to in items)
            return "<ul>" + "".join(links) + "</ul>"
        case Code(title, body):
            name = escape(title)
            return f"<details><summary>{name}</summary><pre>{escape(body)}</pre></details>"
        case Picture(name, title, read, made):
            caption = f"<strong>{escape(title)}.</strong> {escape(read)} {escape(made)}"
            image = _image(figures[name], title)
            return (
                f'<figure id="figure-{escape(name)}">{image}'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        case Table():
            return _table(block)
        case Sounds():
            return _sounds(block)


def _sounds(block: Sounds) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in block.columns)
    rows = "\n".join("<tr>" + "".join(map(_heard, row)) + "</tr>" for row in block.rows)
    return (
        f'<h3 id="sounds-{escape(block.name)}">{escape(block.title)}</h3>\n'
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _heard(cell: str | bytes | None) -> str:
    if isinstance(cell, bytes):
        data = base64.b64encode(cell).decode()
        return f'<td><audio controls src="data:audio/wav;base64,{data}"></audio></td>'
    return f"<td>{escape(show(cell))}</td>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in table.rows)
    body = (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )
    title = f'<h3 id="table-{escape(table.name)}">{escape(table.title)}</h3>'
    if table.folded:
        return f"{title}\n<details><summary>Show the table</summary>\n{body}</details>"
    return f"{title}\n{body}"


def _cell(cell: Cell) -> str:
    if isinstance(cell, bytes):
        return f"<td>{_image(cell, 'held-out picture')}</td>"
    is_number = isinstance(cell, int | float | tuple) and not isinstance(cell, bool)
    kind = ' class="number"' if is_number else ""
    return f"<td{kind}>{escape(show(cell))}</td>"


def _image(png: bytes, description: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(description)}">'
