"""What the scripts of the stages share on their command lines."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """The type of options that count something."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)
