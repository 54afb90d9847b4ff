"""What stage 0 says of a corpus: what it will cost, what is left out, and what is odd."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import soundfile as sf

from gan_denoise.errors import InputError
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import say
from kaldi.corpora.listing import Listing, Recording

# Speeds of one 2.3 GHz core relative to real time, the last one at 16 kHz
READING, CONVERTING, CORRUPTING = 1500, 500, 200
_LARGE_BYTES = 2**30
_REPORTED = 5


def announce_cost(recordings: list[Recording], data: Path, sample_rate: int, jobs: int) -> None:
    """Say beforehand how much disk and time a large corpus will take.

    Raises InputError where the disk is too small.
    """
    size = sum(recording.clean.stat().st_size for recording in recordings)
    if size < _LARGE_BYTES:
        return
    sample = []
    for recording in recordings[:: max(1, len(recordings) // 50)]:
        with contextlib.suppress(sf.LibsndfileError):  # a bad one is reported when its turn comes
            sample.append((recording.clean.stat().st_size, sf.info(recording.clean)))
    if not sample:
        return
    duration_s = (
        sum(info.duration for _, info in sample)
        * size
        / sum(file_bytes for file_bytes, _ in sample)
    )
    converts = sample[0][1].samplerate != sample_rate
    parallel = recordings[0].noisy is not None
    files_written = (2 if parallel else 1) * converts + (0 if parallel else 1)
    need = int(duration_s * sample_rate * 2 * files_written)  # PCM 16
    data.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(data).free
    core_s = duration_s * (2 if parallel else 1) / (CONVERTING if converts else READING)
    core_s += 0 if parallel else duration_s / CORRUPTING * sample_rate / 16000
    minutes = core_s / jobs / 60
    say(
        f"stage 0: {len(recordings)} recordings, about {duration_s / 3600:.0f} h of audio: stages 0"
        f" and 1 will take about {need / 1e9:.0f} GB in {data} ({free / 1e9:.0f} GB are free) and"
        f" {minutes:.0f} minutes with {jobs} job(s)"
    )
    if need > free:
        raise InputError(
            f"{data}: {need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free: use --subset, or"
            " --data on another disk"
        )


def report_lacks(lines: list[str], data: Path) -> None:
    """Name what was left out: the first few on the terminal, all of it in DATA/skipped."""
    (data / "skipped").unlink(missing_ok=True)
    if not lines:
        return
    write_atomically(data / "skipped", "".join(f"{line}\n" for line in lines))
    for line in lines[:_REPORTED]:
        say(f"  skipped {line}")
    say(f"  skipped {len(lines)} in all, listed in {data / 'skipped'}")


def report_corpus(
    corpus: Listing,
    rates: Mapping[int, int],
    noisy_rates: Mapping[int, list[str]],
    sample_rate: int,
) -> None:
    """What else a corpus holds, other rates, and speakers that seem to be none."""
    for note in corpus.notes:
        say(f"  {note}")
    for kind, paths in corpus.unused.items():
        say(f"  not used: {len(paths)} {kind}, {paths[0]}{' and others' if paths[1:] else ''}")

    def band(rate: int) -> str:
        return f": above {rate / 2000:g} kHz they hold nothing" if rate < sample_rate else ""

    for rate, count in sorted(rates.items()):
        if rate != sample_rate:
            say(f"  {count} recordings at {rate} Hz were converted{band(rate)}")
    for rate, utt_ids in sorted(noisy_rates.items()):
        say(
            f"  {len(utt_ids)} noisy recordings are at {rate} Hz and their clean ones are not, such"
            f" as {utt_ids[0]}{band(rate)}"
        )
    if len({recording.speaker for recording in corpus.recordings}) == len(corpus.recordings):
        say(
            "  WARNING: every recording seems to have a speaker of its own: if some are of one"
            " person, train and test share people: name the speakers in a CSV file"
        )


def refuse_leaks(recordings: Iterable[tuple[str, str, str]]) -> None:
    """Refuse recordings with equal content in two splits: what is trained on is not tested on.

    Equal content in one split is only reported. recordings: content, split and name of each. Raises
    InputError.
    """
    first: dict[str, tuple[str, str]] = {}
    twice = []
    for content, split, name in recordings:
        other_split, other = first.setdefault(content, (split, name))
        if other_split != split:
            raise InputError(
                f"{name}: is the same recording as {other}, one for {split}, one for {other_split}:"
                " remove one, or put both speakers into one by --split"
            )
        if other != name:
            twice.append(f"{name} = {other}")
    if twice:
        say(f"  WARNING: {len(twice)} recordings are there twice, such as {twice[0]}")
