"""A table of cells as text: Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io

Cells = list[list[str]]
_TEX = {mark: f"\\{mark}" for mark in "&%$#_{}"} | {"±": "$\\pm$", "\\": r"\textbackslash{}"}


def markdown(cells: Cells) -> str:
    """A table in Markdown, aligned for a terminal.

    The first column stands left, the others right. The text is empty where there is no row below
    the heading.
    """
    if len(cells) < 2:
        return ""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]

    def line(row: list[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "| " + " | ".join([first, *others]) + " |"

    dashes = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), f"|{'|'.join(dashes)}|", *map(line, cells[1:])]) + "\n"


def comma_separated(cells: Cells) -> str:
    """The same as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells if len(cells) > 1 else [])
    return text.getvalue()


def latex(cells: Cells) -> str:
    """The same as a tabular of LaTeX's package booktabs."""
    if len(cells) < 2:
        return ""
    heading, *rows = (
        " & ".join("".join(_TEX.get(mark, mark) for mark in cell) for cell in row) + r" \\"
        for row in cells
    )
    begin = rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}"
    lines = [begin, r"\toprule", heading, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


FORMATS = {"md": markdown, "csv": comma_separated, "latex": latex}
