"""A page to hear systems side by side, and to rank them blind: one file that opens offline.

The listener may hide who is who: systems then stand under letters, in another order for each
utterance, without pictures and scores; the page counts the ranks and gives them as CSV.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import soundfile as sf

from gan_denoise import audio
from gan_denoise.datadir import DataDir, read_scp
from gan_denoise.errors import InputError
from gan_denoise.serve.page import PLAYER, STYLE
from reporting.page import spectrogram
from reporting.statistics import Run

_PAGE = Template(Path(__file__).with_name("listening.html").read_text(encoding="utf-8"))
_PICTURE = (320, 96)  # pixels
REFERENCE = "clean"
SCORES = {"pesq_wb": "PESQ {:.2f}", "si_sdr": "SI-SDR {:.1f} dB"}  # that stand beside a system


@dataclass(frozen=True)
class Utterance:
    """One utterance in one condition, as every system has it.

    files: by system, `clean` first and `noisy` second. scores: by system, in words.
    """

    utt_id: str
    condition: str
    files: Mapping[str, Path]
    scores: Mapping[str, str]


def in_words(row: Mapping[str, Any]) -> str:
    """Those scores that a row has, as the report shows them."""
    return ", ".join(
        text.format(row[name]) for name, text in SCORES.items() if row.get(name) is not None
    )


def of_experiment(run: Run, data: DataDir, exp: Path, count: int) -> list[Utterance]:
    """`count` utterances of the test set, evenly from its list, as every system of a run has them.

    exp: where the systems' enhanced.scp files are; of several seeds, the first is heard.
    """
    files = {REFERENCE: data.wav, "noisy": data.noisy}
    for name in run.models:
        scp = exp / run.folders[name][0] / "enhanced.scp"
        if scp.is_file():
            files[name] = read_scp(scp)
    chosen = [data.utt_ids[at * len(data) // count] for at in range(min(count, len(data)))]
    rows = {name: {row["utt_id"]: row for row in rows} for name, rows in run.systems.items()}
    return [
        Utterance(
            utt_id,
            "test",
            {name: paths[utt_id] for name, paths in files.items()},
            {name: in_words(rows.get(name, {}).get(utt_id, {})) for name in files},
        )
        for utt_id in chosen
    ]


def render_listening(
    utterances: Sequence[Utterance], *, title: str, note: str = "", blind: bool = False
) -> str:
    """The page to listen to utterances.

    note: plain text below the players, such as who recorded them; addresses in it become links.
    blind: whether the page first shows letters in place of the systems' names. Raises InputError
    where a system's file is not of the clean one's length and rate.
    """
    rooms = [_room(utterance) for utterance in utterances]
    return _PAGE.substitute(
        title=html.escape(title),
        note=html.escape(note),
        blind=json.dumps(blind),
        rooms=json.dumps(rooms).replace("</", "<\\/"),
        style=STYLE.read_text(encoding="utf-8"),
        player=PLAYER.read_text(encoding="utf-8"),
    )


def _room(utterance: Utterance) -> dict[str, Any]:
    """What the page needs of one utterance."""
    systems: list[dict[str, str]] = []
    loudest_db, shape = None, None
    for name, path in utterance.files.items():
        wave, sample_rate = audio.read_mono(path)
        shape = shape or (len(wave), sample_rate)
        if shape != (len(wave), sample_rate):
            problem = f"has {len(wave)} samples at {sample_rate} Hz, {REFERENCE} has"
            raise InputError(path, f"{problem} {shape[0]} at {shape[1]} Hz", "align them first")
        picture, loudest_db = spectrogram(wave, sample_rate, loudest_db, size=_PICTURE)
        score = utterance.scores.get(name, "")
        systems.append(
            {"name": name, "score": score, "picture": picture, "sound": opus(wave, sample_rate)}
        )
    return {"utterance": utterance.utt_id, "condition": utterance.condition, "systems": systems}


def opus(wave: np.ndarray, sample_rate: int) -> str:
    """Mono samples as Ogg Opus in base64, about 46 kbit/s.

    A wave that exceeds full scale is turned down, not clipped.
    """
    rate = sample_rate if sample_rate in (8000, 12000, 16000, 24000, 48000) else 48000
    wave = audio.resample(wave / max(1.0, float(np.abs(wave).max())), sample_rate, rate)
    file = io.BytesIO()
    sf.write(file, wave, rate, format="OGG", subtype="OPUS", compression_level=0.85)
    return base64.b64encode(file.getvalue()).decode()
