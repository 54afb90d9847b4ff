#!/usr/bin/env python3
"""A campaign of edits: whatever is changed behind the recipe's back, no wrong figure is shown.

    python tests/edits.py [--edits 30] [--seed 0] [--folder DIR]

A tiny experiment is run from nothing to its table, in a copy of the repository. Then one thing is
changed at random: a recording, an enhanced file, weights, scores or a table of theirs replaced or
removed; the code of a metric, a generator or the training, or only a comment; a setting; a stage
left out; a folder moved; a system removed. The recipe goes on from a random stage. What it shows
must be what a run from nothing shows of the same recordings, code and settings, or it must say what
is wrong. Prints a line for each edit; exit status 1 where a figure was wrong in silence.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import soundfile as sf

from conftest import speech_like, write

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "steps=4 batch_size=2 segment_s=0.5 workers=0 validate_utterances=1 validate_every=100 "
    "generator.width=8 generator.blocks=1"
)


def changed(settings: str, changes: str) -> str:
    """Settings of --train-opts, each named once."""
    chosen = dict(word.split("=", 1) for word in f"{settings} {changes}".split())
    return " ".join(f"{key}={value}" for key, value in chosen.items())


@dataclass
class Place:
    """A copy of the repository, a corpus, and what the recipe makes of it."""

    folder: Path
    settings: str = TINY

    def __post_init__(self) -> None:
        names = ("code", "corpus", "data", "exp")
        self.code, self.corpus, self.data, self.exp = (self.folder / name for name in names)

    def run(self, stage: int, stop: int = 5) -> subprocess.CompletedProcess:
        options = ["--corpus", self.corpus, "--data", self.data, "--exp", self.exp]
        options += ["--experiments", "l1", "--conditions", "", "--nj", "1", "--stage", stage]
        options += ["--stop-stage", stop]
        options += ["--train-opts", self.settings]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.code)}
        command = ["bash", str(self.code / "egs/vctk/run.sh"), *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    @property
    def figures(self) -> set[str]:
        """The rows of all tables that stage 5 has written."""
        text = (self.exp / "RESULTS.md").read_text()
        return {line.replace(" ", "") for line in text.splitlines() if line.startswith("| ")}


def make_corpus(folder: Path) -> None:
    for index, speaker in enumerate(("ann", "bob", "spk1", "spk10", "zoe")):
        for number in range(2):
            wave = speech_like(10 * index + number, 1.0)
            write(folder / speaker / f"rec{number}.wav", wave, subtype="PCM_16")


def replace_audio(path: Path, draw: random.Random) -> None:
    info = sf.info(path)
    wave = speech_like(draw.randrange(100, 999), info.frames / info.samplerate)
    write(path, wave[: info.frames], subtype="PCM_16")


def change_code(place: Place, name: str, old: str, new: str) -> None:
    path = place.code / name
    text = path.read_text()
    assert old in text, f"{name}: has no {old!r} any more: mend this campaign"
    path.write_text(text.replace(old, new, 1))


def recording(place: Place, draw: random.Random) -> str:
    path = draw.choice(sorted(place.corpus.rglob("*.wav")))
    replace_audio(path, draw)
    return f"recording {path.parent.name}/{path.name} replaced"


def enhanced_file(place: Place, draw: random.Random) -> str:
    path = draw.choice(sorted((place.exp / draw.choice(["l1", "oracle_mag"])).rglob("*.wav")))
    replace_audio(path, draw)
    return f"{path.relative_to(place.exp)} replaced"


def noisy_file(place: Place, draw: random.Random) -> str:
    path = draw.choice(sorted((place.data / "test/noisy").glob("*.wav")))
    replace_audio(path, draw)
    return f"{path.relative_to(place.data)} replaced"


def weights(place: Place, draw: random.Random) -> str:
    path = place.exp / "l1/model/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 0x40
    path.write_bytes(content)
    return "weights replaced"


def score(place: Place, draw: random.Random) -> str:
    path = place.exp / "l1/scores.csv"
    path.write_text(re.sub(r",1\.", ",3.", path.read_text(), count=1))
    return "a score changed by hand"


def removed(place: Place, draw: random.Random) -> str:
    names = ["l1/enhanced.made", "l1/enhanced.scp", "l1/scores.yaml", "l1/scores.csv"]
    names += ["l1/checkpoint.pt", "noisy/scores.csv", "oracle_mag/enhanced.made"]
    name = draw.choice(names)
    (place.exp / name).unlink()
    return f"{name} removed"


def system(place: Place, draw: random.Random) -> str:
    name = draw.choice(["l1", "oracle_mask"])
    shutil.rmtree(place.exp / name)
    return f"system {name} removed"


def metric(place: Place, draw: random.Random) -> str:
    change_code(
        place,
        "gan_denoise/metrics/distortion.py",
        "10.0 * np.log10(ratio)",
        "0.5 + 10.0 * np.log10(ratio)",
    )
    return "code of a metric changed"


def generator(place: Place, draw: random.Random) -> str:
    old = "self.stft.inverse(masked("
    change_code(place, "gan_denoise/signal/spectral.py", old, old.replace("masked", "1.1 * masked"))
    return "code of the generator changed"


def comment(place: Place, draw: random.Random) -> str:
    name = draw.choice(
        ["gan_denoise/metrics/distortion.py", "gan_denoise/enhance.py", "recipes/train.py"]
    )
    change_code(place, name, "\nfrom __future__", "\n# A comment\nfrom __future__")
    return f"a comment in {name}"


def other_module(place: Place, draw: random.Random) -> str:
    change_code(place, "gan_denoise/export.py", "from __future__", "UNUSED = 1\nfrom __future__")
    text = (place.code / "gan_denoise/export.py").read_text().replace("UNUSED = 1\n", "")
    (place.code / "gan_denoise/export.py").write_text(f"{text}\nUNUSED = 1\n")
    return "another module changed"


def setting(place: Place, draw: random.Random) -> str:
    change = draw.choice(["optimizer.lr=1e-2", "steps=5", "seed=3"])
    place.settings = changed(place.settings, change)
    return f"settings {change}"


def retrained(place: Place, draw: random.Random) -> str:
    shutil.rmtree(place.exp / "l1/model")
    (place.exp / "l1/checkpoint.pt").unlink()
    place.settings = changed(place.settings, "optimizer.lr=2e-2 optimizer.warmup_steps=0")
    done = place.run(2, stop=2)
    assert done.returncode == 0, done.stderr
    return "trained again by other settings"


def moved(place: Place, draw: random.Random) -> str:
    name = draw.choice(["data", "exp"])
    target = getattr(place, name).with_name(f"{name}_moved")
    getattr(place, name).rename(target)
    setattr(place, name, target)
    return f"{name} moved"


EDITS: list[Callable[[Place, random.Random], str]] = [
    *(recording, enhanced_file, noisy_file, weights, score, removed, removed, system, metric),
    *(generator, comment, other_module, setting, retrained, moved),
]


class Fresh:
    """Figures of runs from nothing, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, set[str]] = {}

    def figures(self, place: Place) -> set[str]:
        """Of the same recordings, code and settings."""
        content = [place.settings.encode()]
        for root in (place.corpus, place.code / "gan_denoise", place.code / "recipes"):
            files = sorted(path for path in root.rglob("*") if path.suffix in (".wav", ".py"))
            content += [path.read_bytes() for path in files]
        key = hashlib.sha256(b"".join(content)).hexdigest()
        if key not in self._known:
            shutil.rmtree(self._folder, ignore_errors=True)
            fresh = Place(self._folder, place.settings)
            for name in ("code", "corpus"):
                shutil.copytree(getattr(place, name), getattr(fresh, name), symlinks=True)
            result = fresh.run(0)
            assert result.returncode == 0, result.stderr
            self._known[key] = fresh.figures
        return self._known[key]


def campaign(folder: Path, edits: list[Callable], seed: int) -> list[str]:
    """Prints a line for each edit; returns those that were wrong."""
    draw, wrong, fresh = random.Random(seed), [], Fresh(folder / "fresh")
    first, kept = Place(folder / "place"), folder / "kept"
    ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "data", "exp", "results")
    shutil.copytree(ROOT, first.code, ignore=ignored)
    programs = Path(sys.executable).parent  # the environment is this one, not a copy's own
    (first.code / "egs/vctk/path.sh").write_text(f'export PATH="{programs}:$PATH"\n')
    make_corpus(first.corpus)
    begun = first.run(0)
    assert begun.returncode == 0, begun.stderr
    shutil.copytree(first.folder, kept, symlinks=True)
    for number, edit in enumerate(edits):
        shutil.rmtree(first.folder)
        shutil.copytree(kept, first.folder, symlinks=True)
        place = Place(first.folder)
        what, stage = edit(place, draw), draw.choice([0, 2, 3, 4, 5])
        result = place.run(stage)
        errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        if result.returncode:
            outcome = f"refused: {errors[0][7:]}" if len(errors) == 1 else "WRONG: no reason"
        elif place.figures <= fresh.figures(place):  # a system that was removed has no rows
            outcome = "equal"
        else:
            said = "by other code" in result.stdout + result.stderr
            outcome = "said" if said else "WRONG IN SILENCE"
        print(f"{number:3d} {what}, --stage {stage}: {outcome}", flush=True)
        if outcome.startswith("WRONG"):
            wrong.append(f"{what}, --stage {stage}: {outcome}\n{result.stderr}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edits", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    edits = [EDITS[number % len(EDITS)] for number in range(arguments.edits)]
    wrong = campaign(folder, edits, arguments.seed)
    print(*wrong, f"{len(edits)} edits, {len(wrong)} wrong", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
