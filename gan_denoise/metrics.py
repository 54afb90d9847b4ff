"""Metrics: one row per utterance, and a metric that cannot be computed is empty with its reason, never replaced.

PESQ is C code that can crash or never return, so every file pair is scored in worker processes that may die.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_denoise import audio, workers
from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically

SI_SDR_LIMIT_DB = 100.0
DECIMALS = 6  # beyond it, sums in another order show
_TIMEOUT_S = 120.0  # a 10-second pair takes about one


class Unscorable(Exception):
    """This metric has no value for this pair; the message says why."""


@dataclass(frozen=True)
class Signals:
    """What a metric sees: mono float64 samples (T,) of equal length; noisy only where it was given."""

    clean: np.ndarray
    enhanced: np.ndarray
    noisy: np.ndarray | None
    sample_rate: int


def si_sdr(signals: Signals) -> float:
    """Scale-invariant SDR in dB (Le Roux et al. 2019, eq. 3), of zero-mean signals, within +-100 dB."""
    clean, enhanced = signals.clean - signals.clean.mean(), signals.enhanced - signals.enhanced.mean()
    if not clean.any() or not enhanced.any():
        raise Unscorable("a constant signal has no SI-SDR")
    target = (enhanced @ clean) / (clean @ clean) * clean
    distortion = enhanced - target
    floor = 10.0 ** (-SI_SDR_LIMIT_DB / 10.0)
    ratio = max(target @ target, floor * (enhanced @ enhanced)) / max(
        distortion @ distortion, floor * (target @ target)
    )
    return float(np.clip(10.0 * np.log10(ratio), -SI_SDR_LIMIT_DB, SI_SDR_LIMIT_DB))


def wsdr(signals: Signals) -> float:
    """Weighted SDR (Choi et al. 2019, eq. 7), with the loss's sign: -1 is best. Needs the noisy signal."""
    if signals.noisy is None:
        raise Unscorable("needs the noisy signal")
    clean, noise, estimate = signals.clean, signals.noisy - signals.clean, signals.noisy - signals.enhanced

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        norms = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / norms) if norms > 0 else 0.0

    share = (clean @ clean) / (clean @ clean + noise @ noise)
    return float(-share * cosine(clean, signals.enhanced) - (1.0 - share) * cosine(noise, estimate))


def pesq_wb(signals: Signals) -> float:
    """Wide-band PESQ (ITU-T P.862.2) by the package pesq; rates above 16 kHz are resampled to it."""
    import pesq  # takes (rate, reference, degraded); the other order gives a plausible wrong number

    if signals.sample_rate < 16000:
        raise Unscorable(f"wide-band PESQ needs 16 kHz, this is {signals.sample_rate} Hz")
    clean, enhanced = (audio.resample(wave, signals.sample_rate, 16000) for wave in (signals.clean, signals.enhanced))
    if len(clean) < 4000:
        raise Unscorable("shorter than the 0.25 s that PESQ needs")
    try:
        return float(pesq.pesq(16000, clean.astype(np.float32), enhanced.astype(np.float32), "wb"))
    except (pesq.PesqError, ValueError) as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise Unscorable(f"PESQ: {reason}") from error


def _stoi(signals: Signals, extended: bool) -> float:
    from pystoi import stoi as pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # it warns, and returns 1e-5, where it cannot compute
        try:
            return float(pystoi(signals.clean, signals.enhanced, signals.sample_rate, extended=extended))
        except RuntimeWarning as error:
            raise Unscorable("STOI: too little active speech (it needs about 0.45 s)") from error


def stoi(signals: Signals) -> float:
    """STOI (Taal et al. 2011) by the package pystoi."""
    return _stoi(signals, extended=False)


def estoi(signals: Signals) -> float:
    """Extended STOI (Jensen and Taal 2016) by the package pystoi."""
    return _stoi(signals, extended=True)


METRICS: dict[str, Callable[[Signals], float]] = {
    "pesq_wb": pesq_wb,
    "stoi": stoi,
    "estoi": estoi,
    "si_sdr": si_sdr,
    "wsdr": wsdr,
}
# PESQ apart: when its C code takes the process along, the other metrics of that utterance still stand
_GROUPS = (("pesq_wb",), ("stoi", "estoi", "si_sdr", "wsdr"))


@dataclass(frozen=True)
class Pair:
    """The files of one utterance."""

    utt_id: str
    clean: Path
    enhanced: Path
    noisy: Path | None = None


def score(
    pairs: Sequence[Pair], *, jobs: int, metrics: Iterable[str] = tuple(METRICS)
) -> Iterator[dict[str, str | float | None]]:
    """Score every pair; yields one row each, in the pairs' order, whatever the number of jobs.

    A row: utt_id, then each metric's value (float or None) and, for None, its reason under `<metric>_reason`.
    """
    metrics = list(metrics)
    wanted = [tuple(name for name in group if name in metrics) for group in _GROUPS]
    tasks = [(pair, group) for pair in pairs for group in wanted if group]
    rows: dict[str, dict] = {pair.utt_id: {} for pair in pairs}
    waiting = iter(pairs)
    pair = next(waiting, None)
    for outcome in workers.each(_score_group, tasks, jobs=jobs, timeout_s=_TIMEOUT_S, always_isolated=True):
        scored, group = outcome.item
        values = outcome.result or {name: (None, outcome.reason) for name in group}
        rows[scored.utt_id].update(values)
        while pair is not None and len(rows[pair.utt_id]) == len(metrics):
            yield _row(pair.utt_id, rows.pop(pair.utt_id), metrics)
            pair = next(waiting, None)


def _row(utt_id: str, values: Mapping[str, tuple[float | None, str | None]], metrics: Sequence[str]) -> dict:
    row: dict[str, str | float | None] = {"utt_id": utt_id}
    for name in metrics:
        row[name] = values[name][0]
    for name in metrics:
        if values[name][1]:
            row[f"{name}_reason"] = values[name][1]
    return row


def _score_group(task: tuple[Pair, tuple[str, ...]]) -> dict[str, tuple[float | None, str | None]]:
    pair, names = task
    signals = _read(pair)
    values: dict[str, tuple[float | None, str | None]] = {}
    for name in names:
        try:
            for what in ("clean", "enhanced"):
                if not getattr(signals, what).any():
                    raise Unscorable(f"the {what} signal is silent")
            value = METRICS[name](signals)
            if not np.isfinite(value):
                raise Unscorable("has no finite value for these signals (is one of them constant?)")
            values[name] = (round(value, DECIMALS), None)
        except Unscorable as reason:
            values[name] = (None, str(reason))
    return values


def _read(pair: Pair) -> Signals:
    clean, sample_rate = audio.read_mono(pair.clean, dtype="float64")
    others = []
    for path in (pair.enhanced, pair.noisy):
        if path is None:
            others.append(None)
            continue
        wave, rate = audio.read_mono(path, dtype="float64")
        if rate != sample_rate:
            raise InputError(f"{path}: is at {rate} Hz, {pair.clean.name} at {sample_rate} Hz: resample one of them")
        if len(wave) != len(clean):
            raise InputError(f"{path}: has {len(wave)} samples, {pair.clean.name} has {len(clean)}: align them first")
        others.append(wave)
    return Signals(clean, others[0], others[1], sample_rate)


def write_csv(path: str | Path, rows: Sequence[Mapping]) -> None:
    """Write rows as CSV, atomically; numbers with 6 decimals, reasons in columns at the end."""
    columns = list(dict.fromkeys(column for row in rows for column in row if not column.endswith("_reason")))
    columns += [f"{column}_reason" for column in columns if column in METRICS]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.{DECIMALS}f}" if isinstance(value, float) else value for key, value in row.items()}
        )
    write_atomically(path, text.getvalue())


def read_csv(path: str | Path) -> list[dict[str, str | float | None]]:
    """Read rows that `write_csv` wrote: metrics as float, or None where empty. Raises InputError."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}: run stage 4 first") from error
    if not rows or "utt_id" not in rows[0]:
        raise InputError(f"{path}: holds no scores: run stage 4 again")
    for row in rows:
        for name in METRICS.keys() & row.keys():
            row[name] = float(row[name]) if row[name] else None
    return rows
