#!/usr/bin/env python3
"""Print the tables of a model's card in Markdown: scores before and after, in many conditions.

conditions.py has the conditions, such as noises, rooms, channels and levels.

    card.py [--jobs N] [--utterances N] [--strength S] [--conditions NAMES]
            MODEL DATADIR NOISE ROOMS
    card.py --command "PROGRAM {in} {out}" ... MODEL DATADIR NOISE ROOMS

MODEL: a model directory, `live` or `files`; with --command, a name for another denoiser, which is
run on every file: WAV in, WAV of the same length out. NOISE, ROOMS: folders of recordings (WAV or
FLAC) of noise and of room responses. A clean recording is one without what lies below 60 Hz
(gan_denoise/corruption/targets.py).
"""

from __future__ import annotations

import functools
import shlex
import subprocess
import tempfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import recipe_path  # noqa: F401
from conditions import CONDITIONS, Scene, alone
from gan_denoise import audio, datadir
from gan_denoise.config import read_yaml
from gan_denoise.corruption import rooms
from gan_denoise.corruption.targets import high_pass
from gan_denoise.errors import InputError, nearest
from gan_denoise.metrics import METRICS, Signals, Unscorable
from gan_denoise.system import terminal, workers
from gan_denoise.system.terminal import program, progress
from kaldi.options import positive

if TYPE_CHECKING:
    from gan_denoise.enhance import Denoiser

SHOWN = ("pesq_wb", "estoi", "si_sdr")
ALONE = "noise alone"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # at which noise alone is lowered
_START_S = 0.3


class Case(NamedTuple):
    """An utterance, its corpus, and what it meets."""

    utt_id: str
    path: Path
    corpus: str
    noise: Path
    room: int
    condition: str


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of processes (default 1)"
    )
    parser.add_argument(
        "--utterances",
        type=positive,
        default=24,
        metavar="N",
        help="number of utterances in each condition (default 24)",
    )
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="strength of the model, 0 to 1 (default: its own, 0.5)",
    )
    parser.add_argument(
        "--command", metavar="CMD", help="command of another denoiser, with {in} and {out}"
    )
    parser.add_argument(
        "--conditions",
        metavar="NAMES",
        help=f"names of conditions, separated by semicolons (default: {'; '.join(names())})",
    )
    for name, what in (
        ("model", "model directory or packaged model; with --command, a name"),
        ("data", "data directory of test speech"),
        ("noise", "folder of noise recordings"),
        ("rooms", "folder of room responses"),
    ):
        parser.add_argument(name, type=Path, metavar=name.upper(), help=what)
    arguments = parser.parse_args()
    chosen = names()
    if arguments.conditions:
        chosen = [name.strip() for name in arguments.conditions.split(";")]
    for name in chosen:
        if name not in names():
            raise InputError(f"--conditions: unknown name {name!r}{nearest(name, names())}")
    cases = choose(arguments.data, arguments.noise, arguments.utterances, chosen)
    system = System(arguments.model, arguments.command)
    work = partial(measure, system=system, strength=arguments.strength, responses=arguments.rooms)
    measured: dict[tuple[str, str], list[np.ndarray]] = {}
    outcomes = workers.each(work, cases, jobs=arguments.jobs, always_isolated=True)
    for outcome in progress(outcomes, total=len(cases), label="card", unit="utterances"):
        case, value = outcome.item, outcome.value()
        if value is None:
            continue
        for group in ("all", case.corpus):
            measured.setdefault((case.condition, group), []).append(value)
    show(measured, chosen, list(dict.fromkeys(case.corpus for case in cases)))


def show(
    measured: Mapping[tuple[str, str], list[np.ndarray]], chosen: list[str], corpora: list[str]
) -> None:
    """Print the table of these conditions, and that of noise alone.

    measured: (condition, corpus or all) -> values of its utterances.
    """
    print("| input | files | " + " | ".join(METRICS[name].heading for name in SHOWN) + " |")
    print("|---|---|" + "---|" * len(SHOWN))
    for condition in chosen:
        broken_down = ("all", *corpora) if condition in ("clean", "procedure") else ("all",)
        for group in broken_down if len(corpora) > 1 else ("all",):
            if condition != ALONE and (values := measured.get((condition, group))):
                print(row(condition if group == "all" else f"{condition}, {group}", values))
    if values := measured.get((ALONE, "all")):
        print("\n| noise alone, lowered by dB | " + " | ".join(map(str, STRENGTHS)) + " |")
        print("|---|" + "---|" * len(STRENGTHS))
        for name, means in zip(("whole", "first 0.3 s"), np.mean(values, axis=0), strict=True):
            print(f"| {name} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")


def names() -> list[str]:
    return [*CONDITIONS, ALONE]


def choose(folder: Path, recordings: Path, count: int, conditions: list[str]) -> list[Case]:
    """`count` utterances for each condition, the same ones, evenly spread over the corpora.

    Raises InputError.
    """
    data = datadir.read(folder)
    paths = sorted(path for path in recordings.glob("*") if path.suffix in (".wav", ".flac"))
    if not paths:
        raise InputError(f"{recordings}: holds no WAV or FLAC file: name a folder of recordings")
    record = folder.parent / "corpus.yaml"  # a data directory by itself has none
    corpora = read_yaml(record).get("corpora") if record.is_file() else None
    speakers = {name: set().union(*splits.values()) for name, splits in (corpora or {}).items()}
    speakers = speakers or {folder.name: set(data.spk2utt)}
    cases: list[Case] = []
    for corpus, spk_ids in speakers.items():
        utt_ids = [utt_id for utt_id in data.utt_ids if data.utt2spk[utt_id] in spk_ids]
        for place in datadir.spread(len(utt_ids), -(-count // len(speakers))):
            utt_id, number = utt_ids[place], len(cases) // len(conditions)
            for condition in conditions:
                recording = paths[number % len(paths)]
                cases.append(Case(utt_id, data.wav[utt_id], corpus, recording, number, condition))
    return cases


def row(name: str, values: list[np.ndarray]) -> str:
    before, after = np.nanmean(values, axis=0)
    cells = [name, str(len(values))]
    for b, a, metric in zip(before, after, SHOWN, strict=True):
        digits = METRICS[metric].decimals
        unharmed = b > {"pesq_wb": 4.6, "estoi": 0.999, "si_sdr": 60.0}[metric]
        cells.append(
            f"{a:.{digits}f}"
            if unharmed
            else f"{b:.{digits}f} → {a:.{digits}f} ({a - b:+.{digits}f})"
        )
    return f"| {' | '.join(cells)} |"


class System(NamedTuple):
    """What is looked at: a model, or another denoiser by its command."""

    model: Path
    command: str | None

    @property
    def takes_strength(self) -> bool:
        return self.command is None and loaded(self.model).takes_strength

    def __call__(
        self, noisy: np.ndarray, sample_rate: int, strength: float | None = None
    ) -> np.ndarray:
        """(T,) -> (T,) float64. Raises InputError for a command that fails."""
        if self.command is None:
            denoise = loaded(self.model)
            return denoise(noisy, sample_rate, strength=strength).astype(np.float64)
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: Path(folder, f"{name}.wav") for name in ("in", "out")}
            audio.write_wav(paths["in"], noisy, sample_rate)
            words = [word.format_map(paths) for word in shlex.split(self.command)]
            ended = subprocess.run(words, capture_output=True, text=True, check=False)
            if ended.returncode or not paths["out"].is_file():
                last = (ended.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
                raise InputError(self.command, last, "run it by hand on a file")
            enhanced, rate = audio.read_mono(paths["out"], dtype="float64")
        enhanced = audio.resample(enhanced, rate, sample_rate)
        if abs(len(enhanced) - len(noisy)) > sample_rate // 10:
            problem = f"made {len(enhanced)} samples of {len(noisy)}"
            raise InputError(self.command, problem, "it must keep the length")
        return np.pad(enhanced, (0, max(0, len(noisy) - len(enhanced))))[: len(noisy)]


@functools.cache
def loaded(model: Path) -> Denoiser:
    import torch

    from gan_denoise.enhance import Denoiser

    torch.set_num_threads(1)
    return Denoiser.load(model)


@functools.cache
def responses_in(folder: Path, sample_rate: int) -> list[rooms.Room]:
    """One of each room."""
    return [room[0] for room in rooms.measured(folder, early_ms=50.0, sample_rate=sample_rate)]


def measure(
    case: Case, *, system: System, strength: float | None, responses: Path
) -> np.ndarray | None:
    """(2, metrics), before and after enhancement; None for a case that has no scores.

    For noise alone it is (2, strengths): by how many dB the whole of it and its start are lowered.
    """
    speech, sample_rate = audio.read_mono(case.path, dtype="float64")
    added, rate = audio.read_mono(case.noise, dtype="float64")
    added = audio.resample(added, rate, sample_rate)
    start = zlib.crc32(case.utt_id.encode()) % max(1, len(added) - len(speech))
    added = np.resize(added[start : start + len(speech)], len(speech))
    measured = responses_in(responses, sample_rate)
    room = measured[case.room % len(measured)]
    speech = high_pass(speech, sample_rate)
    scene = Scene(case.utt_id, speech, added, room.full, room.early, sample_rate)
    if case.condition == ALONE:
        noisy, _ = alone(scene)
        return lowered_db(system, noisy, sample_rate)
    noisy, target = CONDITIONS[case.condition](scene)
    enhanced = system(noisy, sample_rate, strength)
    try:
        return np.array(
            [
                [METRICS[name].function(Signals(target, wave, None, sample_rate)) for name in SHOWN]
                for wave in (noisy, enhanced)
            ]
        )
    except Unscorable:
        return None


def lowered_db(system: System, noisy: np.ndarray, sample_rate: int) -> np.ndarray:
    """(2, strengths)."""
    start = round(_START_S * sample_rate)
    columns = []
    for strength in STRENGTHS if system.takes_strength else (None,):
        enhanced = system(noisy, sample_rate, strength)
        parts = [(noisy, enhanced), (noisy[:start], enhanced[:start])]
        columns.append([10.0 * np.log10(np.mean(a**2) / (np.mean(b**2) + 1e-12)) for a, b in parts])
    return np.array(columns * (1 if len(columns) > 1 else len(STRENGTHS))).T


if __name__ == "__main__":
    main()
