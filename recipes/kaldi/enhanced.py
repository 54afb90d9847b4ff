"""Stage 3's work on one recording, in a process that loads the model once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from kaldi.stage import Piece

if TYPE_CHECKING:
    from gan_denoise.enhance import Denoiser


def enhance_one(piece: Piece, *, model: Path, weights: str, one_thread: bool) -> None:
    from gan_denoise.enhance import enhance_file  # with torch, by those who have something to do

    (noisy,) = piece.sources
    enhance_file(_denoiser(model, weights, one_thread), noisy, piece.file)


@functools.cache
def _denoiser(model: Path, weights: str, one_thread: bool) -> Denoiser:
    """The model, loaded once in each process; weights: their digest, since they may change."""
    import torch

    from gan_denoise.enhance import Denoiser

    if one_thread:  # several jobs share the cores among themselves
        torch.set_num_threads(1)
    return Denoiser.load(model)
