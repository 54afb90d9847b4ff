"""What the scripts of the stages share on their command lines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


def positive(text: str) -> int:
    """The type of options that count something."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


@dataclass(frozen=True)
class Part:
    """A part of a stage's recordings: `--part 2/8` is every eighth, from the second on.

    It holds nothing of what concerns all recordings. Tasks on several machines make one part each,
    at the same time; the same command without `--part` finds their files, makes what is missing,
    and writes the tables.
    """

    index: int = 1
    count: int = 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """This part's share of a list that is the same for all parts."""
        return list(items[self.index - 1 :: self.count])

    def __bool__(self) -> bool:
        return self.count > 1

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}" if self else ""


WHOLE = Part()


def part(text: str) -> Part:
    """The type of `--part`."""
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, found {text!r}")
    return Part(int(index), int(count))


def sharing(parser: argparse.ArgumentParser) -> None:
    """Add the options of a stage whose recordings can be shared: `--jobs`, `--part`."""
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of processes (default 1)"
    )
    parser.add_argument(
        "--part",
        type=part,
        default=WHOLE,
        metavar="K/N",
        help="only every N-th recording, from the K-th on (default: all)",
    )
