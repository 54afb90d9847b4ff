"""Whether a corpus's noisy recordings belong to its clean ones.

All are looked at together, and again those of each split and of each pair of folders, since a few
wrong ones do not show among many right ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gan_denoise import audio, scoring
from gan_denoise.datadir import spread
from gan_denoise.errors import InputError
from gan_denoise.signal import alignment
from kaldi.conversion import Recordings
from kaldi.corpora.listing import Recording

_FEWEST = 3  # pairs by which those of a split or of two folders are judged
_MANY, _OF_MANY, _OF_FEW = 50, 3, 8  # groups, and how many pairs of each are looked at
_WINDOW_S = 0.032
_DEEPER_DB, _NEARLY_ALL = 6.0, 0.8


def check_pairs(corpus: Path, chosen: Mapping[str, list[Recording]], work: Recordings) -> list[str]:
    """Returns a line for what is wrong with some pairs. Raises InputError where most are wrong.

    chosen: the recordings of each split, which `work` has prepared.
    """
    pairs = {
        name: {one.utt_id: one for one in listed if work.match(one)}
        for name, listed in chosen.items()
    }
    everything = {key: one for listed in pairs.values() for key, one in listed.items()}
    if not everything:
        return []
    matches = {key: match for key, one in everything.items() if (match := work.match(one))}
    groups = dict(_groups(corpus, pairs, everything))
    for words, group in groups.items():
        _refuse_misplaced(corpus, words, {key: matches[key] for key in group})
    count = _OF_MANY if len(groups) > _MANY else _OF_FEW
    looked_at = {}
    for words, group in groups.items():
        keys = [list(group)[place] for place in spread(len(group), count)]
        looked_at[words] = {key: scoring.Pair(key, *work.files(group[key])) for key in keys}
    _refuse_exchanged(corpus, looked_at)
    same = {key for key, one in everything.items() if work.is_clean(one)}
    for name, listed in pairs.items():
        if listed and same >= listed.keys():
            raise InputError(
                corpus,
                f"all {len(listed)} noisy recordings of {name} are the clean ones, such as"
                f" {next(iter(listed))}",
                "put noisy ones in their place",
            )
    notes = [f"noisy recordings are {note}" for note in alignment.judge(matches).notes]
    if same:
        notes.append(
            f"{len(same)} of {len(everything)} noisy recordings are the clean ones, such as"
            f" {min(same)}"
        )
    return notes


def _groups(
    corpus: Path, splits: Mapping[str, dict[str, Recording]], everything: dict[str, Recording]
) -> Iterator[tuple[str, dict[str, Recording]]]:
    """All, those of each split, and those of each two folders, with words for where they are."""
    yield "", everything
    folders: dict[str, dict[str, Recording]] = {}
    for key, recording in everything.items():
        folders.setdefault(_folders(corpus, recording), {})[key] = recording
    seen = [everything.keys()]
    for words, group in (*splits.items(), *folders.items()):
        if len(group) >= _FEWEST and group.keys() not in seen:
            seen.append(group.keys())
            yield f"in {words}, ", group


def _folders(corpus: Path, recording: Recording) -> str:
    """The folders from which on the paths of a clean and a noisy recording differ."""
    noisy = recording.noisy
    assert noisy is not None
    clean_above, noisy_above = (list(path.parents)[::-1] for path in (recording.clean, noisy))
    both = list(zip(clean_above, noisy_above, strict=False))
    differing = next((two for two in both if two[0] != two[1]), both[-1])
    names = [
        str(path.relative_to(corpus) if path.is_relative_to(corpus) else path)
        for path in dict.fromkeys(differing)
    ]
    return " and ".join(names)


def _refuse_misplaced(corpus: Path, words: str, matches: Mapping[str, alignment.Match]) -> None:
    if refusal := alignment.judge(matches).refusal:
        raise InputError(
            corpus, words + refusal, "align or replace them first, or a model would learn it"
        )


def _refuse_exchanged(corpus: Path, groups: Mapping[str, Mapping[str, scoring.Pair]]) -> None:
    """Refuse clean recordings that are the noisy ones, of all pairs or of a group.

    The pauses of all may tell. In a group, noise fills the gaps of clean speech where it fills
    those of noisy speech elsewhere in the corpus.
    """
    depths = {key: _deeper_db(pair) for pairs in groups.values() for key, pair in pairs.items()}
    for words, pairs in groups.items():
        here = [depths[key] for key in pairs]
        elsewhere = [depth for key, depth in depths.items() if key not in pairs]
        opposite = (
            bool(elsewhere)
            and float(np.median(elsewhere)) > _DEEPER_DB
            and float(np.mean(np.array(here) < -_DEEPER_DB)) > _NEARLY_ALL
        )
        if scoring.swapped(list(pairs.values())) or (words and opposite):
            raise InputError(
                corpus,
                f"{words}{'the' if words else 'its'} clean recordings have more noise in their"
                " pauses than the noisy ones",
                "are the folders swapped?",
            )


def _deeper_db(pair: scoring.Pair) -> float:
    """By how many dB the gaps of clean speech are deeper than those of noisy speech.

    It is the median over frequency bands, so that a filter changes nothing.
    """
    assert pair.clean is not None and pair.enhanced is not None
    clean, noisy = (_gaps_db(*audio.read_mono(path)) for path in (pair.clean, pair.enhanced))
    return float(np.median(clean - noisy))


def _gaps_db(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """How far the quiet tenth of each frequency lies below its loud tenth: (n_fft // 2 + 1,) dB."""
    length = round(_WINDOW_S * sample_rate)
    wave = np.pad(wave, (0, max(0, length - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, length)[:: length // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(length))) ** 2 + 1e-12
    quiet, loud = np.quantile(power, (0.1, 0.9), axis=0)
    return 10.0 * np.log10(loud / quiet)
