"""report.html: one file that opens offline: the table, and utterances to hear and see in every system."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
from matplotlib import colormaps
from PIL import Image

from gan_denoise import audio
from gan_denoise.datadir import DataDir, read_scp
from gan_denoise.noise import spectrogram_db

if TYPE_CHECKING:
    from results import Run

_FLOOR_DB = 80.0  # below the loudest bin of the clean spectrogram is black
_PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def render_page(run: Run, data: DataDir, exp: Path) -> str:
    """The page of one run. data: the test split. exp: where the systems' enhanced.scp files are."""
    sources = {"clean": data.wav, "noisy": data.noisy}
    for name, (folder, *_) in run.folders.items():  # of several seeds, one is heard
        if (exp / folder / "enhanced.scp").is_file():
            sources[name] = read_scp(exp / folder / "enhanced.scp")
    heading, *rows = run.rows()
    table = "<tr>" + "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in heading) + "</tr>"
    for row in rows:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        table += f"<tr><th scope=row>{html.escape(row[0])}</th>{cells}</tr>"
    return _PAGE.substitute(
        verdict=html.escape(verdict(run)),
        command=html.escape(run.about["command"]),
        table=table,
        room="".join(_utterance(utt_id, why, sources, run) for utt_id, why in chosen(run).items()),
    )


def verdict(run: Run) -> str:
    """One sentence: which system is best, by how much."""
    models = [name for name, folders in run.folders.items() if folders[0] in run.about["models"]]
    gaps = {name: run.gap_closed(name, "pesq_wb") for name in models}
    gaps = {name: gap for name, gap in gaps.items() if gap is not None}
    if not gaps:
        return "No system was scored."
    best = max(gaps, key=gaps.__getitem__)
    noisy, own = run.means("noisy"), run.means(best)
    sentence = (
        f"{best} takes PESQ-WB from {noisy['pesq_wb']:.2f} to {own['pesq_wb']:.2f} ({100 * gaps[best]:.0f} % of the gap to the "
        f"oracle magnitude) and SI-SDR from {noisy['si_sdr']:.1f} to {own['si_sdr']:.1f} dB."
    )
    found = run.difference("gan", "l1", "pesq_wb") if {"gan", "l1"} <= set(models) else None
    if found is None:
        return sentence
    return f"{sentence} gan - l1: {found.mean:+.2f} PESQ-WB [{found.low:+.2f}, {found.high:+.2f}]."


def chosen(run: Run) -> dict[str, str]:
    """utt_id -> why it is on the page: best, median and worst by PESQ gain of the last system over noisy."""
    noisy = {utt_id: score for (_, utt_id), score in run.values("noisy", "pesq_wb").items()}
    last = {utt_id: score for (_, utt_id), score in run.values(list(run.systems)[-1], "pesq_wb").items()}
    gain = {utt_id: last[utt_id] - noisy[utt_id] for utt_id in noisy if utt_id in last}
    ranked = sorted(gain, key=gain.__getitem__)
    if not ranked:
        return dict.fromkeys([row["utt_id"] for row in run.systems["noisy"]][:3], "example")
    return {ranked[-1]: "largest gain", ranked[len(ranked) // 2]: "median gain", ranked[0]: "smallest gain"}


def _utterance(utt_id: str, why: str, sources: dict[str, dict[str, Path]], run: Run) -> str:
    loudest_db = None
    cells = ""
    for name, files in sources.items():
        wave, sample_rate = audio.read_mono(files[utt_id])
        picture, loudest_db = spectrogram(wave, sample_rate, loudest_db)
        score = next((row for row in run.systems.get(name, []) if row["utt_id"] == utt_id), {})
        shown = (
            f"PESQ {score['pesq_wb']:.2f}, SI-SDR {score['si_sdr']:.1f} dB"
            if None not in (score.get("pesq_wb"), score.get("si_sdr"))
            else ""
        )
        cells += (
            f"<figure><figcaption><b>{html.escape(name)}</b> {shown}</figcaption>"
            f'<img alt="spectrogram of {html.escape(f"{utt_id}, {name}")}" src="data:image/webp;base64,{picture}">'
            f'<audio controls preload="metadata" src="data:audio/flac;base64,{flac(wave, sample_rate)}"></audio></figure>'
        )
    return f"<section><h3>{html.escape(utt_id)} <small>{why}</small></h3><div class=room>{cells}</div></section>"


def spectrogram(wave: np.ndarray, sample_rate: int, loudest_db: float | None) -> tuple[str, float]:
    """A WebP picture in base64, low frequencies at the bottom, and the level of its loudest bin (white, unless given)."""
    level_db = spectrogram_db(wave, sample_rate)[::-1]
    loudest_db = float(level_db.max()) if loudest_db is None else loudest_db
    level = 1.0 + (level_db - loudest_db) / _FLOOR_DB
    pixels = (255 * colormaps["magma"](np.clip(level, 0.0, 1.0))[..., :3]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((480, 160)).save(file, "WEBP", quality=80)
    return base64.b64encode(file.getvalue()).decode(), loudest_db


def flac(wave: np.ndarray, sample_rate: int) -> str:
    """Mono samples as FLAC in base64; what exceeds full scale is turned down, not clipped."""
    file = io.BytesIO()
    sf.write(file, wave / max(1.0, float(np.abs(wave).max())), sample_rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()
