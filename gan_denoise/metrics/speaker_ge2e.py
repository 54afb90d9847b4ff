"""Speaker similarity by a learnt embedding, computed on demand.

A network that was taught to tell people apart says whether two recordings are of the same person.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.metrics import speakers
from gan_denoise.metrics.signals import Metric, Signals, Unscorable

_RATE = 16000
_SHORTEST_S = 0.2  # of voice, as speaker_similarity has it


@lru_cache(maxsize=1)
def _encoder() -> Any:
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)


def embedding(wave: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """(T,) -> (256,): the GE2E embedding of the voiced parts; None where they are under 0.2 s."""
    from resemblyzer import preprocess_wav

    wave = audio.resample(wave, sample_rate, _RATE)
    # Its voice detector takes 16 bits
    voiced = preprocess_wav((wave / max(1.0, np.abs(wave).max())).astype(np.float32))
    return _encoder().embed_utterance(voiced) if len(voiced) >= _SHORTEST_S * _RATE else None


def speaker_ge2e(signals: Signals) -> float:
    """Cosine of the two signals' GE2E embeddings (Wan et al. 2018), by the package Resemblyzer."""
    clean, enhanced = (
        embedding(wave, signals.sample_rate) for wave in (signals.clean, signals.enhanced)
    )
    if clean is None or enhanced is None:
        which = "clean" if clean is None else "enhanced"
        raise Unscorable(f"less than 0.2 s of voice in the {which} signal")
    return speakers.similarity(clean, enhanced)


METRICS = {
    "speaker_ge2e": Metric(
        speaker_ge2e,
        "speaker GE2E",
        3,
        packages=("resemblyzer", "webrtcvad", "librosa"),
        extra="judges",
        task="speaker_ge2e",
    )
}
