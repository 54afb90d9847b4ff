#!/usr/bin/env python3
"""Make the mini corpus, in which espeak-ng voices read public-domain sentences.

    make_mini.py [--voices N] [--sentences N] [--jobs N] DIR

It has the layout of VCTK 0.92. Speakers are p901, p902, ...; sentences 001 to 003 are read by all
of them (as VCTK's 001 to 024 are), the others, from 025 on, by one voice each. 48 kHz FLAC as in
VCTK, made from espeak-ng's 22.05 kHz. Every sample is the same whenever the corpus is made:
conf/mini_digests.txt has a digest of each recording's samples, and a recording that differs from it
is reported.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import espeakng_loader  # type: ignore[import-untyped]
import numpy as np
import soundfile as sf

import recipe_path  # noqa: F401
from gan_denoise import audio
from gan_denoise.datadir import read_table
from gan_denoise.errors import InputError
from gan_denoise.system import terminal, workers
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, progress, say
from kaldi.corpora import MINI
from kaldi.options import positive

TEXT = Path(__file__).resolve().parents[1] / "conf/mini_text.txt"
DIGESTS = TEXT.with_name("mini_digests.txt")
SHARED, FIRST_OWN, MAX_OWN = 3, 25, 17
# espeak-ng voice and variant, words a minute, pitch (0 to 99), gender, accent
VOICES = [
    ("en-us+m3", 165, 42, "M", "American"),
    ("en+f2", 160, 55, "F", "English"),
    ("en-gb-scotland+m7", 150, 38, "M", "Scottish"),
    ("en-us+f4", 175, 60, "F", "American"),
    ("en-gb-x-gbclan+m1", 170, 48, "M", "Lancastrian"),
    ("en-029+f3", 155, 52, "F", "Caribbean"),
    ("en-gb-x-rp+m4", 145, 35, "M", "English"),
    ("en-us-nyc+f5", 180, 58, "F", "American"),
    ("en-gb-x-gbcwmd+m2", 158, 50, "M", "MidlandsEnglish"),
    ("en-gb-scotland+f1", 168, 64, "F", "Scottish"),
    ("en-029+m5", 172, 45, "M", "Caribbean"),
    ("en-gb-x-rp+f2", 152, 47, "F", "English"),
]
_RATE, _PITCH, _SYNCHRONOUS, _DONT_EXIT, _UTF8 = 1, 3, 2, 0x8000, 1  # speak_lib.h
_LONGEST_PATH = 120  # bytes; espeak-ng keeps 160 of a path, with names of its own behind it


def synthesise(voice: str, rate: int, pitch: int, sentences: list[str]) -> list[np.ndarray]:
    """Speak the sentences: a list of int16 samples at 22050 Hz.

    espeak-ng keeps state from one sentence to the next, so the same sound comes again only from a
    fresh process that speaks the same sentences in the same order.
    """
    with short_path(espeakng_loader.get_data_path()) as data:
        return _speak(data, voice, rate, pitch, sentences)


def _speak(data: str, voice: str, rate: int, pitch: int, sentences: list[str]) -> list[np.ndarray]:
    espeak = ctypes.CDLL(espeakng_loader.get_library_path())
    chunks: list[bytes] = []

    @ctypes.CFUNCTYPE(  # type: ignore[untyped-decorator]
        ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
    )
    def collect(samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    if espeak.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT) != 22050:
        raise InputError(
            "espeak-ng: cannot be initialised: reinstall the package espeakng-loader as the lock"
            " pins it"
        )
    # The breath of f2, f3 and f5 is noise of a generator that espeak_Initialize seeds with the time
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))
    espeak.espeak_SetSynthCallback(collect)
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(
            f"espeak-ng: has no voice {voice}: reinstall the package espeakng-loader as the lock"
            " pins it"
        )
    espeak.espeak_SetParameter(_RATE, rate, 0)
    espeak.espeak_SetParameter(_PITCH, pitch, 0)
    spoken = []
    for sentence in sentences:
        chunks.clear()
        text = sentence.encode()
        espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
        espeak.espeak_Synchronize()
        spoken.append(np.frombuffer(b"".join(chunks), dtype=np.int16))
    return spoken


@contextlib.contextmanager
def short_path(folder: str) -> Iterator[str]:
    """The folder's path, or that of a link to it where espeak-ng would cut the path off."""
    if len(os.fsencode(folder)) < _LONGEST_PATH:
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        link = os.path.join(place, os.path.basename(folder))
        os.symlink(folder, link)
        yield link


def make_speaker(task: tuple[Path, int, int]) -> dict[str, str]:
    """Write one speaker's folders below a corpus folder; returns utt_id -> digest of its samples.

    task: (corpus, index of the voice, number of sentences). Needs a process of its own.
    """
    corpus, index, count = task
    voice, rate, pitch, _, _ = VOICES[index]
    spk_id = f"p{901 + index}"
    text = TEXT.read_text(encoding="utf-8").splitlines()
    alone = text[SHARED + MAX_OWN * index : SHARED + MAX_OWN * (index + 1)]
    numbered = dict(enumerate(text[:SHARED], start=1)) | dict(enumerate(alone, start=FIRST_OWN))
    numbered = dict(list(numbered.items())[:count])
    digests = {}
    for number, samples in zip(
        numbered, synthesise(voice, rate, pitch, list(numbered.values())), strict=True
    ):
        utt_id = f"{spk_id}_{number:03d}"
        # 0.9: resampling may overshoot full scale
        pcm = audio.to_pcm16(audio.resample(0.9 / 32768 * samples.astype(np.float64), 22050, 48000))
        assert pcm is not None
        digests[utt_id] = hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest()[:16]
        flac = corpus / "wav48_silence_trimmed" / spk_id / f"{utt_id}_mic1.flac"
        flac.parent.mkdir(parents=True, exist_ok=True)
        sf.write(flac, pcm, 48000, subtype="PCM_16")
        txt = corpus / "txt" / spk_id / f"{utt_id}.txt"
        txt.parent.mkdir(parents=True, exist_ok=True)
        txt.write_text(numbered[number] + "\n", encoding="utf-8")
    return digests


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--voices",
        type=positive,
        default=len(VOICES),
        metavar="N",
        help=f"number of speakers, at most {len(VOICES)} (default {len(VOICES)})",
    )
    parser.add_argument(
        "--sentences",
        type=positive,
        default=SHARED + MAX_OWN,
        metavar="N",
        help=f"number of sentences of each speaker (default {SHARED + MAX_OWN})",
    )
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of processes (default 1)"
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder to make")
    arguments = parser.parse_args()
    if arguments.dir.is_dir():
        say(f"mini corpus: {arguments.dir} is there")
        return
    folder = arguments.dir.parent
    with owning(folder):
        partial = folder / f".{arguments.dir.name}.part"
        digests = make(partial, arguments.voices, arguments.sentences, arguments.jobs)
        partial.rename(arguments.dir)
    expected = read_table(DIGESTS)
    if others := [utt_id for utt_id, digest in digests.items() if expected.get(utt_id) != digest]:
        say(
            f"WARNING: {len(others)} of {len(digests)} recordings of {arguments.dir}, the first"
            f" {others[0]}, differ from those behind the repository's figures: is espeakng-loader"
            " the version that requirements.lock pins?"
        )
    say(
        f"mini corpus: {arguments.voices} voices with {arguments.sentences} sentences each in"
        f" {arguments.dir}"
    )


def make(corpus: Path, voices: int, sentences: int, jobs: int) -> dict[str, str]:
    """Write a whole corpus into a new folder; returns utt_id -> digest of its samples.

    Raises InputError, OSError.
    """
    tasks = [(corpus, index, sentences) for index in range(voices)]
    digests: dict[str, str] = {}
    with ProcessPoolExecutor(jobs, workers.forkserver(), max_tasks_per_child=1) as pool:
        try:
            for speaker_digests in progress(
                pool.map(make_speaker, tasks), total=voices, label="mini corpus", unit="voices"
            ):
                digests |= speaker_digests
        except BrokenProcessPool as error:
            raise InputError(
                f"{corpus}: a process that made recordings has died: repeat the command"
            ) from error
    info = io.StringIO()
    info.write("ID  AGE  GENDER  ACCENTS  REGION COMMENTS\n")
    for index, (voice, _, _, gender, accent) in enumerate(VOICES[:voices]):
        info.write(f"p{901 + index}  0  {gender}    {accent}    (espeak-ng voice {voice})\n")
    (corpus / "speaker-info.txt").write_text(info.getvalue(), encoding="utf-8")
    (corpus / MINI).write_text(
        "Made by egs/vctk/local/make_mini.py, for a first look.\n", encoding="utf-8"
    )
    return digests


if __name__ == "__main__":
    main()
