"""report.html: one file that opens offline.

It holds the verdict, tables, plots, and a room to hear and see every system.
"""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from string import Template

import numpy as np
import soundfile as sf
from matplotlib import colormaps
from PIL import Image

from gan_denoise import audio
from gan_denoise.datadir import DataDir, read_scp
from gan_denoise.errors import InputError
from gan_denoise.serve.page import PLAYER, STYLE
from gan_denoise.signal.numpy_stft import spectrogram_db
from reporting import legend, plots, tables
from reporting.formats import Cells
from reporting.statistics import SI_SDR, Run
from reporting.verdict import verdict

_FLOOR_DB = 80.0  # below the loudest bin of the clean spectrogram is black
_BUDGET = 13e6  # bytes for the listening room: the page is to stay under 15 MB
_PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def render_page(run: Run, data: DataDir, exp: Path) -> str:
    """The page of one run. data: the test split. exp: where the systems' enhanced.scp files are."""
    models = run.models
    sources = {"clean": data.wav, "noisy": data.noisy}
    for name in models:  # of several seeds, one is heard
        scp = exp / run.folders[name][0] / "enhanced.scp"
        if scp.is_file() and all(map(_is_mono, (files := read_scp(scp)).values())):
            sources[name] = files
    pictures = {
        title: "".join(picture.svg() for picture in drawn)
        for title, drawn in plots.of_run(run, exp).items()
    }
    if models:
        shown = "gan" if "gan" in models else models[-1]
        heard = {
            name: files for name, files in sources.items() if name in ("clean", "noisy", shown)
        }
        if voices := plots.voices(heard, {utt_id: data.utt2spk[utt_id] for utt_id in data.utt_ids}):
            pictures["Voices: t-SNE of speaker embeddings"] = voices
    room, audio_data = listening_room(run, sources)
    return _PAGE.substitute(
        verdict=html.escape(verdict(run)),
        command=html.escape(run.about["command"]),
        legend=definitions(legend.systems([run])),
        columns=definitions(legend.columns([run])),
        systems=table("systems", tables.systems(run)),
        speakers=len(set(data.utt2spk.values())),
        utterances=len(data),
        differences=folded("differences", tables.headlines(run), tables.differences(run)),
        notes="".join(f"<p>{html.escape(line)}</p>" for line in tables.comparisons(run)),
        conditions=table("conditions", tables.conditions(run)),
        further=(
            folded("further", tables.condition_headlines(run), tables.condition_differences(run))
            if run.conditions
            else ""
        ),
        gains=table("gains", tables.gains(run)),
        pictures="".join(
            f"<figure><figcaption>{title}</figcaption>{svg}</figure>"
            for title, svg in pictures.items()
        ),
        scores=table("scores", tables.utterances(run, data)),
        highest=f"{run.about['corpus']['sample_rate'] / 2000:g}",
        room=room,
        audio=json.dumps(audio_data).replace("</", "<\\/"),
        style=STYLE.read_text(encoding="utf-8"),
        player=PLAYER.read_text(encoding="utf-8"),
    )


def _is_mono(path: Path) -> bool:
    """Whether the players can have it: what is not has reasons for scores, and ends no page."""
    try:
        with audio.Reader(path) as reader:
            return reader.channels == 1
    except (InputError, OSError):
        return False


def definitions(rows: list[tuple[str, str]]) -> str:
    """Terms and what they mean."""
    lines = (f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in rows)
    return f"<dl>{''.join(lines)}</dl>"


def folded(name: str, short: Cells, whole: Cells) -> str:
    """A table, and below it, after a click, the one with all columns."""
    if len(short) < 2:
        return table(name, short)
    return (
        f"{table(name, short)}<details><summary>In all metrics, with the p value of each"
        f" alone</summary>{table(f'{name}-all', whole)}</details>"
    )


def table(name: str, rows: Cells) -> str:
    """A sortable table, with a field that filters its rows where they are many.

    The first row is the heading.
    """
    if len(rows) < 2:
        return "<p>Nothing to compare.</p>"
    heading, *body = rows
    columns = "".join(
        f"<th scope=col><button type=button>{html.escape(cell)}</button></th>" for cell in heading
    )
    lines = ""
    for row in body:
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        lines += f"<tr><th scope=row>{html.escape(row[0])}</th>{cells}</tr>"
    label = (
        f'<label class=filter>Filter <input type=search data-filter="{name}"></label>'
        if len(body) > 2
        else ""
    )
    return (
        f'{label}<div class=wide tabindex=0 role=region aria-label="{name}"><table id="{name}">'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def chosen(run: Run) -> dict[str, str]:
    """utt_id -> why it is on the page.

    The utterances are the best, the median and the worst by PESQ gain of gan (or of the last
    system), and two fixed ones.
    """
    noisy = {utt_id: score for (_, utt_id), score in run.common("noisy", run.lead).items()}
    judged = "gan" if "gan" in run.systems else list(run.systems)[-1]
    scores = {utt_id: score for (_, utt_id), score in run.common(judged, run.lead).items()}
    gain = {utt_id: scores[utt_id] - noisy[utt_id] for utt_id in noisy if utt_id in scores}
    ranked = sorted(gain, key=gain.__getitem__)
    everything = sorted(row["utt_id"] for row in run.systems["noisy"])
    reasons = {}
    if ranked:
        reasons = {
            ranked[-1]: f"largest gain of {judged}",
            ranked[len(ranked) // 2]: f"median gain of {judged}",
            ranked[0]: f"smallest gain of {judged}",
        }
    fixed = dict.fromkeys([everything[0], everything[-1]], "fixed: first and last of the list")
    return reasons | {utt_id: why for utt_id, why in fixed.items() if utt_id not in reasons}


def listening_room(
    run: Run, sources: dict[str, dict[str, Path]]
) -> tuple[str, dict[str, list[str]]]:
    """The listening room as HTML, and utt_id -> each system's FLAC in base64.

    It holds as many of the chosen utterances as the page's size allows.
    """
    sections, size = "", 0
    sounds: dict[str, list[str]] = {}
    for utt_id, why in chosen(run).items():
        section, flacs = _utterance(utt_id, why, sources, run)
        size += len(section) + sum(map(len, flacs))
        if sounds and size > _BUDGET:
            break
        sections += section
        sounds[utt_id] = flacs
    return sections, sounds


def _utterance(
    utt_id: str, why: str, sources: dict[str, dict[str, Path]], run: Run
) -> tuple[str, list[str]]:
    loudest_db, figures, flacs = None, "", []
    for number, (name, files) in enumerate(sources.items()):
        wave, sample_rate = audio.read_mono(files[utt_id])
        picture, loudest_db = spectrogram(wave, sample_rate, loudest_db)
        score = next((row for row in run.systems.get(name, []) if row["utt_id"] == utt_id), {})
        shown = (
            f"PESQ {score[run.lead]:.2f}, SI-SDR {score[SI_SDR]:.1f} dB"
            if None not in (score.get(run.lead), score.get(SI_SDR))
            else "reference"
            if name == "clean"
            else ""
        )
        flacs.append(flac(wave, sample_rate))
        figures += (
            f'<button type=button class=system aria-pressed="{str(number == 1).lower()}"'
            f' data-system="{number}"><span><b>{html.escape(name)}</b>'
            f' <small>{shown}</small></span><span class=picture><img alt="spectrogram of'
            f' {html.escape(f"{utt_id}, {name}")}"'
            f' src="data:image/webp;base64,{picture}"><i></i></span></button>'
        )
    return (
        (
            f'<section class=room data-utterance="{html.escape(utt_id)}"'
            f' aria-label="{html.escape(utt_id)}"><h3>{html.escape(utt_id)}'
            f" <small>{why}</small></h3><p><button type=button class=play>Play</button> <input"
            ' type=range min=0 max=1000 value=0 aria-label="position"> <output>0.0'
            f" s</output></p><div class=systems>{figures}</div></section>"
        ),
        flacs,
    )


def spectrogram(
    wave: np.ndarray,
    sample_rate: int,
    loudest_db: float | None,
    *,
    size: tuple[int, int] = (480, 160),
) -> tuple[str, float]:
    """A spectrogram as a WebP picture in base64, and the level in dB that is white in it.

    Low frequencies are at the bottom. loudest_db: that level; None takes that of the loudest bin.
    size: width and height in pixels.
    """
    level_db = spectrogram_db(wave, sample_rate)[::-1]
    loudest_db = float(level_db.max()) if loudest_db is None else loudest_db
    level = 1.0 + (level_db - loudest_db) / _FLOOR_DB
    pixels = (255 * colormaps["magma"](np.clip(level, 0.0, 1.0))[..., :3]).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size).save(file, "WEBP", quality=80)
    return base64.b64encode(file.getvalue()).decode(), loudest_db


def flac(wave: np.ndarray, sample_rate: int) -> str:
    """Mono samples as FLAC in base64; what exceeds full scale is turned down, not clipped."""
    file = io.BytesIO()
    sf.write(
        file,
        wave / max(1.0, float(np.abs(wave).max())),
        sample_rate,
        format="FLAC",
        subtype="PCM_16",
    )
    return base64.b64encode(file.getvalue()).decode()
