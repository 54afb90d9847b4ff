"""Word error rate, on demand: what a recogniser understands of enhanced speech.

It is held against the text where there is one, else against what the same recogniser understands of
the clean recording: read it as a difference between systems, since the recogniser itself errs. On
ten clean recordings of speechocean762 (Mandarin speakers) pocketsphinx 5.1.1 has a WER of 1.09
against their text: of such speech it tells nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial

import numpy as np

from gan_denoise import audio
from gan_denoise.metrics.signals import Metric, Signals, Unscorable

_RATE = 16000


def heard(wave: np.ndarray, sample_rate: int) -> list[str]:
    """The words that pocketsphinx's US English model hears in (T,) samples."""
    from pocketsphinx import Decoder

    wave = audio.resample(wave, sample_rate, _RATE)
    samples = np.clip(np.round(wave * 32767.0), -32768, 32767).astype("<i2")
    # A new one for each: it carries something on, which would have an utterance's score depend on
    # those that the same process scored before
    decoder = Decoder(samprate=_RATE, cmn="batch", loglevel="FATAL")
    decoder.start_utt()
    decoder.process_raw(samples.tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return words(hypothesis.hypstr) if hypothesis else []


def words(text: str) -> list[str]:
    """Its words in lower case, without punctuation but for apostrophes within."""
    return re.findall(
        r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )


@lru_cache(maxsize=1)
def _errors(signals: Signals) -> dict[str, float]:
    import jiwer

    if signals.text is None:
        reference, where = heard(signals.clean, signals.sample_rate), "heard in the clean signal"
    else:
        reference, where = words(signals.text), "in its text"
    if not reference:
        raise Unscorable(f"WER: no word is {where}")
    enhanced = heard(signals.enhanced, signals.sample_rate)
    output = jiwer.process_words(" ".join(reference), " ".join(enhanced))
    return {
        "": output.wer,
        "_substitutions": output.substitutions,
        "_deletions": output.deletions,
        "_insertions": output.insertions,
        "_words": len(reference),
    }


def wer(signals: Signals, *, part: str = "") -> float:
    """The word error rate by the packages pocketsphinx and jiwer, or one count in it.

    (Substitutions + deletions + insertions) / words of the reference; 0 is best. part: which of the
    counts, of words.
    """
    return float(_errors(signals)[part])


_PARTS = ("_substitutions", "_deletions", "_insertions", "_words")
_metric = partial(Metric, packages=("pocketsphinx", "jiwer"), extra="judges", task="wer")
METRICS = {
    "wer": _metric(wer, "WER", 3, brings=tuple(f"wer{part}" for part in _PARTS)),
    **{f"wer{part}": _metric(partial(wer, part=part), part[1:], 1) for part in _PARTS},
}
