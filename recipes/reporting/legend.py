"""What a reader needs to know first.

That is what each system is, what each column means, and which direction is better.
"""

from __future__ import annotations

from collections.abc import Iterable

from gan_denoise.metrics import ALL
from reporting.statistics import TIE, Run

_LIMITS = {
    "noisy": "the input as it is",
    "oracle mask": "a limit: each bin of the noisy STFT turned down to the clean magnitude",
    "oracle magnitude": "a limit: the clean STFT's magnitude with the noisy phase",
}
_MEANING = {
    "pesq_wb": "speech quality from 1.0 to 4.6, as PESQ predicts what listeners say",
    "pesq_nb": "speech quality from 1.0 to 4.5, as narrow-band PESQ predicts what listeners say",
    "stoi": "intelligibility, up to 1",
    "estoi": "intelligibility where the noise comes and goes, up to 1",
    "si_sdr": "how far the speech lies above everything else, whatever the level",
    "sdr": "the same, where a short filter between the two recordings costs nothing",
    "wsdr": "how well speech and noise are both met, from -1 (best) to 1",
    "seg_snr": "the signal-to-noise ratio of short frames",
    "lsd": "the distance of the two spectra, 0 where they are equal",
    "csig": "distortion of the speech from 1 to 5, as Hu and Loizou's composite predicts it",
    "cbak": "intrusion of the noise from 1 to 5, as Hu and Loizou's composite predicts it",
    "covl": "overall quality from 1 to 5, as Hu and Loizou's composite predicts it",
    "speaker_similarity": "how alike the voices of output and clean recording are, up to 1",
}
_MEANING |= {
    "distill_mos": "quality from 1 to 5, as Distill-MOS predicts what listeners say",
    "visqol": "quality from 1 to 4.7 up to 24 kHz, as ViSQOL predicts what listeners say",
    "wer": "word errors of a recogniser, as a share of the words that were said",
    "speaker_ge2e": "how alike the voices are to a network that tells speakers apart, up to 1",
    "dnsmos_sig": "quality of the speech from 1 to 5, as DNSMOS predicts what listeners say",
    "dnsmos_bak": "absence of noise from 1 to 5, as DNSMOS predicts what listeners say",
    "dnsmos_ovrl": "overall quality from 1 to 5, as DNSMOS predicts what listeners say",
    "lsd_high": "the distance of the two spectra above 8 kHz, 0 where they are equal",
    "si_sdr_high": "SI-SDR of what lies above 8 kHz alone",
    "dnsmos_p808": "quality from 1 to 5, as DNSMOS predicts listeners in a P.808 test",
}
LOWER = ("wsdr", "lsd", "lsd_high", "wer")  # is better


def systems(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Every system of these runs, and what it is in one sentence."""
    sentences = dict(_LIMITS)
    for run in runs:
        for name in run.models:
            sentences.setdefault(name, run.experiment(name)["summary"] or "nothing is known of it")
    return [(name, text.rstrip(".")) for name, text in sentences.items()]


def columns(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Every column of the tables of these runs, and how to read it."""
    shown = dict.fromkeys(metric for run in runs for metric in run.shown)
    rows = []
    for metric in shown:
        better = "lower" if metric in LOWER else "higher"
        rows.append(
            (ALL[metric].heading, f"{_MEANING.get(metric, 'a metric')}; {better} is better")
        )
    return [
        *rows,
        (
            "gap closed",
            "how much of the way from noisy to the oracle magnitude the system goes;"
            " higher is better",
        ),
        ("weights", "how many the generator has, in millions"),
        (
            "MACs/s",
            "how many multiplications with an addition the generator needs for a second of audio,"
            " in billions (Fourier transforms are not counted): what the system costs",
        ),
        ("scored", "how many utterances have a value in every column"),
        (
            "difference",
            "first system minus second, on the same utterances and seeds;"
            " [low, high] and ± are 95 % intervals (speakers drawn anew, then their utterances)",
        ),
        (
            "in PESQ",
            f"better, worse, or a tie: under {TIE} PESQ, or an interval that holds 0;"
            " trainings with other seeds differ by more than the interval shows",
        ),
        (
            "p (Holm)",
            "Wilcoxon's signed-rank test over utterances in PESQ, corrected for the number of"
            " pairs in its table; it describes these utterances, since those of one speaker are"
            " alike",
        ),
    ]
