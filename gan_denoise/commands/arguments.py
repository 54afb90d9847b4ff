"""What options of several commands may be."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

from gan_denoise import packaged

MODEL = (
    f"a model directory, such as exp/l1/model, or a packaged model: {', '.join(packaged.MODELS)}"
)
DEVICE = "device that the model runs on: cpu (default), cuda, cuda:1 or mps"
QUIET = "print only failures"


def path(text: str) -> Path:
    """pathlib takes an empty name for the folder that one is in."""
    if not text:
        raise argparse.ArgumentTypeError("expected a file or a folder, found an empty name")
    return Path(text)


class Output(argparse.Action):
    """OUT; `into_folder` tells whether a slash at its end says that it is a folder."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        try:
            setattr(namespace, self.dest, path(values))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error
        namespace.into_folder = values.endswith(os.sep)


def positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, found {text}")
    return value


def decibels(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected 0 or more dB, found {text}")
    return value


def strength(text: str) -> float | str:
    if text in ("gentle", "balanced", "strong"):
        return text
    try:
        return share(text)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f"expected gentle, balanced, strong, or 0 to 1, found {text!r}"
        ) from error


def model(text: str) -> str | None:
    """`boxed` was the package's model before there were two: both, each where it is at home."""
    return None if text == "boxed" else text


def model_folder(model: str) -> Path:
    """Of a model directory or a name; `boxed` is live, since it was a streaming one."""
    return packaged.model_folder("live" if model == "boxed" else model)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of processes (default 1)"
    )


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """--model, --strength and --device. default: the model's name."""
    parser.add_argument(
        "--model",
        type=model,
        metavar="DIR",
        help=f"{MODEL} (default {default})",
    )
    parser.add_argument(
        "--strength",
        type=strength,
        metavar="S",
        help=(
            "how much noise to remove: gentle (0), balanced (0.5, default), strong (1), or a number"
            " between"
        ),
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help=DEVICE)


def add_limit(group: argparse._ActionsContainer) -> None:
    """--atten-lim, of a parser or a group of options."""
    group.add_argument(
        "--atten-lim",
        type=decibels,
        metavar="DB",
        help="reduce the noise by at most DB decibels: some of the input is mixed back in",
    )
