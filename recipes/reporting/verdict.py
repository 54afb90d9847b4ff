"""The verdict in words: which system is best, and what each difference is a difference of."""

from __future__ import annotations

from gan_denoise.metrics import ALL
from reporting import tables
from reporting.statistics import SI_SDR, TIE, Run


def verdict(run: Run) -> str:
    """Which system is best, and how it differs from what it is compared with.

    gan's differences follow in the same way. Each sentence also says by what the two experiments
    differ.
    """
    closed = {name: run.gap_closed(name, run.lead) for name in run.models}
    gaps = {name: gap for name, gap in closed.items() if gap is not None}
    if not gaps:
        return "No system was scored."
    best = max(gaps, key=gaps.__getitem__)
    subjects = dict.fromkeys(name for name in (best, "gan") if name in run.models)
    sentences = [_best(run, best, gaps[best])]
    for subject in subjects:
        sentences += _compared(run, subject)
    return " ".join(sentences)


def _best(run: Run, best: str, gap: float) -> str:
    noisy, system = run.means("noisy"), run.means(best)
    sentence = (
        f"{best} takes {ALL[run.lead].heading} from {noisy[run.lead]:.2f} to {system[run.lead]:.2f}"
        f" ({round(100 * gap)} % of the gap to the oracle magnitude)"
    )
    if noisy[SI_SDR] is not None and system[SI_SDR] is not None:
        sentence += f" and SI-SDR from {noisy[SI_SDR]:.1f} to {system[SI_SDR]:.1f} dB"
    return f"{sentence}."


def _compared(run: Run, subject: str) -> list[str]:
    sentences, alone = [], False
    differs = run.experiment(subject)["differs"]
    for name, other in run.differences():
        reading = run.verdict(name, other)
        if name != subject or reading == "-":
            continue
        parts = differs.get(other, [])
        alone |= len(parts) == 1
        how = f"{reading} than" if reading != "tie" else "level with"
        lead = ALL[run.lead].heading
        numbers = tables.interval(run, name, other, run.lead)
        small = run.difference(name, other, run.lead)
        if reading == "tie" and small and not small.low <= 0.0 <= small.high:
            numbers += f" (less than {TIE:g} counts as level)"
        if run.difference(name, other, SI_SDR):
            numbers += f", and {tables.interval(run, name, other, SI_SDR)} dB in SI-SDR"
        sentences.append(f"{subject} is {how} {other} in {lead}: {numbers}.")
        if parts:
            sentences.append(f"The two differ by {_listed(parts)}.")
    if sentences and not alone and any(len(parts) > 1 for parts in differs.values()):
        sentences.append("These systems do not tell which of these parts matters.")
    return sentences


def _listed(parts: list[str]) -> str:
    if len(parts) == 1:
        return f"{parts[0]} alone"
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
