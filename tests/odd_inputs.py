"""Bad and odd inputs over all commands, and how each is answered.

The table stands before any file does: its files lie in PLACE, which a test puts elsewhere.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile as sf

from conftest import speech_like

RATE = 16000
WAVE = speech_like(0, 1.0)
PLACE = Path("/PLACE")


@dataclass(frozen=True)
class Case:
    """A command with the words of its answer.

    status: 0 works, 1 is one error line, 2 is wrong usage.
    """

    command: tuple
    words: tuple[str, ...] = ()
    status: int = 1

    def __str__(self) -> str:
        """The command in short, an id of a test."""
        shown = " ".join(str(word).replace(f"{PLACE}/", "") or "''" for word in self.command)
        return shown[:80].encode("unicode_escape").decode() or "nothing"

    def at(self, folder: Path) -> Case:
        """The same with its files in this folder."""
        command = (str(word).replace(str(PLACE), str(folder)) for word in self.command)
        return replace(self, command=tuple(command))


def encoded(kind: str, wave: np.ndarray, **options: str) -> bytes:
    """(T,) or (T, channels) samples at 16 kHz as a file of this kind."""
    file = io.BytesIO()
    sf.write(file, wave, RATE, format=kind, **options)
    return file.getvalue()


def bad_audio() -> dict[str, bytes]:
    """Files that nobody can read: name -> content."""
    wav, flac, mp3, ogg = (encoded(kind, WAVE) for kind in ("WAV", "FLAC", "MP3", "OGG"))
    floats = np.stack([WAVE, WAVE], axis=1).astype(np.float32)
    floats[500] = np.nan
    nan = encoded("WAV", floats, subtype="FLOAT")
    floats[500] = np.inf
    inf = encoded("WAV", floats, subtype="FLOAT")
    no_rate = wav[:24] + bytes(4) + wav[28:]
    no_channels = wav[:22] + bytes(2) + wav[24:]
    return {
        "zero_bytes.wav": b"",
        "one_byte.wav": b"R",
        "text.wav": b"this is no audio\n" * 20,
        "html.mp3": b"<!doctype html><html><body>404 Not Found</body></html>",
        "zip.wav": b"PK\x03\x04" + bytes(500),
        "png.wav": b"\x89PNG\r\n\x1a\n" + bytes(500),
        "zeros.flac": bytes(5000),
        "ones.mp3": b"\xff" * 5000,
        "noise.ogg": np.random.default_rng(0).bytes(5000),
        "header_only.wav": wav[:44],
        "half_a_header.wav": wav[:20],
        "riff_only.wav": b"RIFF\x24\x00\x00\x00WAVE",
        "no_samples.wav": wav[:4] + struct.pack("<I", 36) + wav[8:40] + bytes(4),
        "no_rate.wav": no_rate,
        "no_channels.wav": no_channels,
        "unknown_codec.wav": wav[:20] + b"\x99\x99" + wav[22:],
        "cut.wav": wav[:9000],
        "cut.flac": flac[: len(flac) // 2],
        "cut.mp3": mp3[: len(mp3) // 2],
        "cut.ogg": ogg[: len(ogg) // 2],
        "nan.wav": nan,
        "inf.wav": inf,
        "joined.wav": wav + wav,
        "damaged.flac": flac[:4000] + b"damage" * 200 + flac[5200:],
        "playlist.mp3": b"#EXTM3U\n#EXTINF:1,\n../good/a.wav\n",
    }


STFT = "stft: {n_fft: 8, hop_length: 2, window: hann}"
NOISE = {  # settings of the noise, with STFT for the line above, and what is said
    "": ("expected a mapping",),
    "[]": ("expected a mapping",),
    "seed": ("expected a mapping",),
    "seed: 0\nseed: 1": ('"seed" is given twice',),
    "seed: [": ("not valid YAML",),
    "a: &a [*a]": ("aliases",),
    "x: " + "[" * 3000: ("nested more than 50 levels",),
    "\0": ("not valid YAML",),
    "sed: 0": ('unknown key "sed" (did you mean "seed"?)',),
    "<<: {seed: 0}": ('unknown key "<<"',),
    "seed: 0": ('"stft" is missing',),
    "seed: -0.5\nSTFT\nmanipulations: [zero: {share: 0.2}]": ("seed: expected a whole number",),
    "seed: yes\nSTFT\nmanipulations: [zero: {share: 0.2}]": ("found 'yes'",),
    "seed: 1:30\nSTFT\nmanipulations: [zero: {share: 0.2}]": ("found '1:30'",),
    "seed: 0\nstft: 5\nmanipulations: []": ("expected a mapping",),
    "seed: 0\nstft: {n_fft: 7, hop_length: 2, window: hann}\nmanipulations: []": ("even number",),
    "seed: 0\nstft: {n_fft: 8, hop_length: 0, window: hann}\nmanipulations: []": ("hop_length",),
    "seed: 0\nstft: {n_fft: 8, hop_length: 5, window: hann}\nmanipulations: []": ("hop_length",),
    "seed: 0\nstft: {n_fft: 8, hop_length: 2, window: han}\nmanipulations: []": ("window",),
    "seed: 0\nSTFT\nmanipulations: []": ("manipulations",),
    "seed: 0\nSTFT\nmanipulations: [zap: {share: 1}]": ('unknown key "zap"',),
    "seed: 0\nSTFT\nmanipulations: [zero: {share: 2}]": ("share: expected a number from 0 to 1",),
    "seed: 0\nSTFT\nmanipulations: [zero: {share: .nan}]": ("share",),
    "seed: 0\nSTFT\nmanipulations: [scale: {share: 1}]": ("factor",),
    "seed: 0\nSTFT\nmanipulations: [zero: {share: 1, band_hz: [5, 1]}]": ("band_hz",),
    "seed: 0\nSTFT\nmanipulations: [zero: {share: 1, quantile: 5}]": ("quantile",),
    "seed: 0\nSTFT\nmanipulations: []\nmix: {noise: {test: [absent.wav]}, snr_db: [0, 5]}": (
        "absent.wav: no such file",
    ),
    "seed: 0\nSTFT\nmanipulations: []\nmix: {noise: {test: [{synthetic: x}]}, snr_db: [0, 5]}": (
        "synthetic",
    ),
    "seed: 0\nSTFT\nmanipulations: []\nmix: {noise: {test: [$NOWHERE/a.wav]}, snr_db: [0, 5]}": (
        "$NOWHERE is not set",
    ),
}  # fmt: skip
SETTINGS = {  # of a training, and what is said
    "lr": ("lr: cannot be read",),
    "=1": ("key=value",),
    "stepz=5": ('unknown key "stepz" (did you mean "steps"?)',),
    "steps=0": ("steps: expected a whole number from 1",),
    "steps=1e3": ("steps: expected a whole number",),
    "steps=ten": ("found 'ten'",),
    "steps=": ("steps",),
    "seed=-1": ("seed",),
    "seed=0x": ("seed",),
    "optimizer.lr=1:30": ("found '1:30'",),
    "optimizer.lr=nan": ("lr",),
    "optimizer.lr=.inf": ("lr",),
    "optimizer.betas=[1, 2]": ("betas",),
    "optimizer.lr.x=1": ("lr",),
    "optimizer=5": ("optimizer",),
    "generator.name=convnex": ('unknown name "convnex"',),
    "generator.width=0": ("width",),
    "generator.width=twelve": ("width",),
    "generator.wdth=8": ('unknown key "wdth"',),
    "generator=[1]": ("generator",),
    "losses.l1=-1": ("l1",),
    "losses.l2=1": ("l2",),
    "losses=5": ("losses",),
    "precision=fp16": ("precision",),
    "batch_size=0": ("batch_size",),
    "segment_s=0": ("segment_s",),
    "gain_db=[6, -12]": ("gain_db",),
    "gain_db=loud": ("gain_db",),
    "workers=-1": ("workers",),
    "ema_decay=1.5": ("ema_decay",),
    "warm_start_steps=999999": ("warm_start_steps",),
    "trackers=[nothing]": ("trackers",),
    "fresh_noise=maybe": ("fresh_noise",),
    "adversary.discriminators=5": ("discriminators",),
    "adversary.discriminators.mpd.periods=[0]": ("periods",),
    "adversary.losses.lsgan=x": ("lsgan",),
    "init=nowhere": ("nowhere",),
    "a" * 300 + "=1": ("unknown key",),
    "steps=[": ("not valid YAML",),
}


BAD = bad_audio()


# A folder of the table; files that it names are made by the functions below
GOOD, OUT, DATA = PLACE / "good/a.wav", PLACE / "out.wav", PLACE / "data"
PREPARE = ("prepare", "--corpus", PLACE / "corpus", "--sample-rate", RATE)
Files = dict[str, str | bytes]  # name -> content


def recordings() -> list[Case]:
    """What can be wrong with a recording, or where it should be."""
    table = [Case(("enhance", PLACE / "bad" / name, OUT), (name,)) for name in BAD]
    table += [Case(("corrupt", PLACE / "bad" / name, OUT), (name,)) for name in BAD]
    for wrong, words in {
        PLACE / "absent.wav": ("no such file",),
        PLACE / "empty_folder": ("holds no audio files",),
        PLACE / "pipe.wav": ("is a pipe or a device",),
        Path("/dev/null"): ("is a pipe or a device",),
        PLACE / "file/below.wav": ("no such file",),
        PLACE / ("x" * 300 + ".wav"): ("",),
        PLACE / "nul\n.wav": ("no such file",),
    }.items():
        table += [Case((command, wrong, OUT), words) for command in ("enhance", "corrupt")]
        table += [Case(("score", wrong, GOOD), words), Case(("score", GOOD, wrong), words)]
    return table


def usage_of_both() -> list[Case]:
    """Wrong usage of enhance and corrupt, which share their options."""
    table: list[Case] = []
    for command in ("enhance", "corrupt"):
        table += [
            Case((command,), ("required",), 2),
            Case((command, GOOD), ("required",), 2),
            *(
                [Case((command, GOOD, OUT, OUT), ("there are several inputs",), 1)]
                if command == "enhance"
                else [Case((command, GOOD, OUT, OUT), ("unexpected argument",), 2)]
            ),
            Case((command, "--job", "2", GOOD, OUT), ("--job",), 2),
            Case((command, "--jobs", "0", GOOD, OUT), ("from 1",), 2),
            Case((command, "--jobs", "-1", GOOD, OUT), ("from 1",), 2),
            Case((command, "--jobs", "two", GOOD, OUT), ("from 1",), 2),
            Case((command, "--jobs", "٣", GOOD, OUT), ("from 1",), 2),
            Case((command, GOOD, GOOD), ("a.wav: ",)),
            Case((command, "--overwrite", GOOD, GOOD), ("is an input file",)),
            Case((command, PLACE / "good", PLACE / "good/out"), ("inside the input folder",)),
            Case((command, PLACE / "good", PLACE / "file"), ("has to be a folder",)),
            Case((command, PLACE / "good", PLACE / "x.scp"), ("has to be a folder",)),
            Case((command, GOOD, PLACE / "x.scp"), ("has to be a file or a folder",)),
            Case(
                (command, GOOD, PLACE / "file/x.wav"),
                ("file: File exists: a folder is expected there",),
            ),
            Case((command, GOOD, "/proc/x.wav"), ("/proc/x.wav",)),
            Case((command, "--", "-x.wav", OUT), ("-x.wav: no such file",)),
        ]
    return table


def usage_of_each() -> list[Case]:
    return [
        Case(("enhance", GOOD, PLACE / "out.aac"), ("unknown suffix",)),
        Case(("enhance", GOOD, PLACE / "out.raw"), ("unknown suffix",)),
        Case(("enhance", GOOD, PLACE / "out"), ("unknown suffix",)),
        Case(("corrupt", GOOD, PLACE / "out.flac"), ("the output has to be WAV",)),
        Case(("enhance", "--mix", "2", GOOD, OUT), ("0 to 1",), 2),
        Case(("enhance", "--mix", "nan", GOOD, OUT), ("0 to 1",), 2),
        Case(("enhance", "--mix", "half", GOOD, OUT), ("--mix",), 2),
        Case(("enhance", "--high-band", "kep", GOOD, OUT), ("invalid choice",), 2),
        Case(("enhance", "--device", "tpu9", GOOD, OUT), ("device",)),
        Case(("enhance", "--device", "cuda:7", GOOD, OUT), ("device",)),
        Case(("enhance", "--model", PLACE / "absent", GOOD, OUT), ("is not a model directory",)),
        Case(("enhance", "--model", PLACE / "good", GOOD, OUT), ("is not a model directory",)),
        Case(("enhance", "--model", "", GOOD, OUT), ("model",)),
        Case(("corrupt", "--split", "tset", GOOD, OUT), ("invalid choice",), 2),
        Case(("corrupt", "--noise", PLACE / "absent.yaml", GOOD, OUT), ("absent.yaml",)),
        Case(("corrupt", "--noise", PLACE / "good", GOOD, OUT), ("good",)),
        Case(("corrupt", "--noise", GOOD, GOOD, OUT), ("a.wav",)),
        Case(("score",), ("required",), 2),
        Case(("score", GOOD), ("required",), 2),
        Case(("score", "--metrics", "pesk", GOOD, GOOD), ("unknown metric 'pesk'",), 2),
        Case(("score", "--metrics", "", GOOD, GOOD), ("unknown metric",), 2),
        Case(("score", "--csv", GOOD, GOOD, GOOD), ("exists",)),
        Case(("score", "--csv", GOOD, "--overwrite", GOOD, GOOD), ("is an input",)),
        Case(("score", PLACE / "corpus", PLACE / "good"), ("no utt_id in common",)),
        Case(("score", "--jobs", "0", GOOD, GOOD), ("from 1",), 2),
        Case(("stream",), ("required",), 2),
        Case(("stream", GOOD, "-"), ("invalid choice",), 2),
        Case(("stream", "--sample-rate", "0", "-", "-"), ("from 1",), 2),
        Case(("stream", "--sample-rate", "16k", "-", "-"), ("from 1",), 2),
        Case(("export", "boxed"), ("required",), 2),
        Case(("export", PLACE / "absent", PLACE / "m.onnx"), ("is not a model directory",)),
        Case(("export", PLACE / "model", PLACE / "m.bin"), ("m.onnx",)),
        Case(("export", "", PLACE / "m.onnx"), ("model",)),
        Case((), ("required",), 2),
        Case(("denoise",), ("invalid choice",), 2),
        Case(("--version",), (), 0),
        Case(("enhance", "--help"), (), 0),
    ]


def lists(files: Files) -> list[Case]:
    """Lists of recordings; adds them to `files`."""
    table: list[Case] = []
    wrong = {
        "": ("is empty",),
        "\n": ("expected `key value`",),
        "a": ("expected `key value`",),
        "a \n": ("expected `key value`",),
        f"a {GOOD}\na {GOOD}\n": ("listed twice",),
        f"../a {GOOD}\n": ("may not be a path",),
        f".a {GOOD}\n": ("may not be a path",),
        "a sox x.wav -t wav - |\n": ("are not run",),
        "a /absent.wav\n": ("/absent.wav: no such file",),
        f"a {PLACE}/bad/text.wav\n": ("text.wav: cannot be decoded",),
        "\x00\n": ("expected `key value`",),
    }
    for number, (content, words) in enumerate(wrong.items()):
        path = PLACE / f"list{number}.scp"
        files[path.name] = content
        table += [Case(("enhance", path, PLACE / f"listed{number}"), words)]
        table += [
            Case(("score", path, path), ("",) if "absent" in content or "bad" in content else words)
        ]
    files["latin.scp"] = "ä /x.wav\n".encode("latin-1")
    table += [Case(("enhance", PLACE / "latin.scp", PLACE / "latin"), ("not UTF-8",))]
    for number, (name, content) in enumerate(
        {
            "mark.scp": f"\ufeffa {GOOD}\n",
            "tab.scp": f"a\t{GOOD}\n",
            "blanks.scp": f"a \t  {GOOD}  \n",
            "windows.scp": f"a {GOOD}\r\n",
            "UPPER.SCP": f"a {GOOD}\n",
            "no_newline.scp": f"a {GOOD}",
        }.items()
    ):
        files[name] = content
        table += [Case(("enhance", "--mix", "0", PLACE / name, PLACE / f"fine{number}"), (), 0)]
    return table


def noises(files: Files) -> list[Case]:
    """Settings of the noise; adds them to `files`."""
    table: list[Case] = []
    for number, (content, words) in enumerate(NOISE.items()):
        content = content.replace("STFT", STFT)
        path = PLACE / f"noise{number}.yaml"
        files[path.name] = content
        table += [
            Case(
                ("corrupt", "--noise", path, GOOD, OUT),
                (path.name, *words) if content.count("absent.wav") == 0 else words,
            )
        ]
    return table


def preparation(files: Files) -> list[Case]:
    """Corpora and splits; adds the splits to `files`."""
    table = [
        Case(("prepare", "--sample-rate", RATE, DATA), ("--corpus and --sample-rate",), 2),
        Case(("prepare", "--corpus", PLACE / "corpus", DATA), ("--corpus and --sample-rate",), 2),
        Case(
            ("prepare", "--corpus", PLACE / "absent", "--sample-rate", RATE, DATA),
            ("no such corpus folder",),
        ),
        Case(
            ("prepare", "--corpus", PLACE / "empty_folder", "--sample-rate", RATE, DATA),
            ("no recordings found",),
        ),
        Case(
            ("prepare", "--corpus", PLACE / "file", "--sample-rate", RATE, DATA),
            ("no such corpus folder",),
        ),
        Case((*PREPARE, PLACE / "corpus/data"), ("lies inside the corpus",)),
        Case((*PREPARE, "--split", PLACE / "absent.yaml", DATA), ("absent.yaml",)),
        Case((*PREPARE, "--split", PLACE / "file", DATA), ("file",)),
        Case((*PREPARE, "--jobs", "two", DATA), ("--jobs",), 2),
        Case((*PREPARE, "--corpsu", "x", DATA), ("--corpsu",), 2),
        Case((*PREPARE, PLACE / "file/data"), ("file",)),
    ]
    splits = {
        "dev: s0\ntest: [s1]": ("dev: expected a list",),
        "dev: [s0]": ('"test" lists no speaker',),
        "dev: [s0]\ntest: [s9]": ('no speaker "s9"',),
        "dev: [s0]\ntest: [s0]": ("s0",),
        "dev: [s0]\ntest: [s1, s2]": ("left for train",),
        "deff: [s0]\ntest: [s1]": ('unknown key "deff"',),
    }
    for number, (content, words) in enumerate(splits.items()):
        files[f"split{number}.yaml"] = content
        table += [Case((*PREPARE, "--split", PLACE / f"split{number}.yaml", DATA), words)]
    return table


def stages() -> list[Case]:
    """The recipe's other programs, and settings of a training."""
    table = [
        Case(("corrupt.py", PLACE / "absent"), ("no such data directory",)),
        Case(("corrupt.py", PLACE / "good"), ("good",)),
        Case(("corrupt.py", "--noise", PLACE / "noise1.yaml", PLACE / "absent"), ("",)),
        Case(("condition", PLACE / "absent", "clean"), ("no such data directory",)),
        Case(("oracle", PLACE / "absent", PLACE / "m", PLACE / "k"), ("no such data directory",)),
        Case(("score.py", PLACE / "absent", PLACE / "exp"), ("no such data directory",)),
        Case(("score.py", DATA, "x", "--then", DATA), ("--then: every DATADIR",), 2),
        Case(("oracle", DATA, PLACE / "m"), ("every DATADIR needs",), 2),
        Case(("report", PLACE / "absent"), ("--data",), 2),
        Case(
            ("train", "--data", PLACE / "absent", "--exp", PLACE / "exp"),
            ("no such data directory",),
        ),
        Case(
            ("train", PLACE / "absent.yaml", "--data", DATA, "--exp", PLACE / "exp"),
            ("absent.yaml",),
        ),
        Case(("train", PLACE / "file.txt", PLACE / "file", "--data", DATA), ("one experiment",), 2),
    ]
    for setting, words in SETTINGS.items():
        table += [Case(("train", setting, "--data", PLACE / "made", "--exp", PLACE / "exp"), words)]
    return table


FILES: Files = {}
# Without the commands that the folder runs answer line by line
CASES = [
    *(*recordings(), *usage_of_both(), *usage_of_each(), *lists(FILES), *noises(FILES)),
    *(*preparation(FILES), *stages()),
]
