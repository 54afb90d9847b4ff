"""A page without a script: a verdict, pictures and tables, in one file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

from gan_denoise.serve.page import STYLE

_PAGE = Template(Path(__file__).with_name("plain.html").read_text(encoding="utf-8"))


def page(name: str, verdict: str, body: str) -> str:
    """body: HTML; name and verdict: text."""
    return _PAGE.substitute(
        name=html.escape(name),
        style=STYLE.read_text(encoding="utf-8"),
        verdict=html.escape(verdict),
        body=body,
    )


def figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{svg}</figure>"


def table(name: str, rows: Sequence[Sequence[str]]) -> str:
    """The first row is the heading; cells of the last column are text, the others figures."""
    heading, *body = rows
    cells = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in heading)
    lines = ""
    for row in body:
        first = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[:-1])
        lines += f"<tr>{first}<td class=text>{html.escape(row[-1])}</td></tr>"
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def as_text(rows: Sequence[Sequence[str]]) -> list[str]:
    """The same for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join(
            [*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]
        ).rstrip()
        for row in rows
    ]
