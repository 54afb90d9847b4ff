#!/usr/bin/env python3
"""A campaign of kills: run.sh, struck at random moments, ends as if nothing had been.

    python tests/campaign.py [--kills 50] [--terms 20] [--seed 0] [--folder DIR]

It strikes in every stage. A tiny configuration of the recipe is run once without a disturbance,
from making the corpus to writing the page. Then it is run again and again in another folder: at a
random moment of a stage whose turn it is, the whole process group gets SIGKILL, and the same
command follows. When a lap's kills are done, the command runs to its end, and what it made is
compared with the undisturbed run: samples of audio, weights, scores and tables, all bit for bit; no
half-written file and no process may be left over. With --terms one process gets SIGTERM: run.sh,
accelerate's launcher, the program itself or one of its workers in turn; then nothing of the tree
may go on, and no traceback may be shown. Prints the figures; exit status 1 where anything differs.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import hashlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import soundfile as sf

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "steps=24 warm_start_steps=12 discriminator_steps=4 batch_size=2 segment_s=0.5 workers=1 "
    "validate_utterances=1 validate_every=12 checkpoint_every=5 log_every=5 generator.width=8 "
    "generator.blocks=1"
)
CONDITIONS = "heavy"
STAGES = {  # program -> its stage
    "make_mini.py": "0 make the corpus",
    "prepare.py": "0 prepare",
    "corrupt.py": "1 corrupt",
    "condition.py": "1 corrupt",
    "same_data.py": "2 train",
    "train.py": "2 train",
    "oracle.py": "3 enhance",
    "enhance.py": "3 enhance",
    "gan-denoise": "3 enhance",
    "score.py": "4 score",
    "report.py": "5 report",
}
KILLS_PER_LAP = 25
# What holds times or places, and the records of who made what
NOT_COMPARED: tuple[str, ...]
NOT_COMPARED = ("log.jsonl", "status.json", "config.json", "about.yaml", "report.html", ".lock")
NOT_COMPARED += ("checkpoint.pt", "data.yaml")
_POLL_S = 0.02
_CONVERTED = re.compile(rb"local/at_[0-9]+_[0-9a-f]+/")  # called by a digest of the corpus's place


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A command whose results are compared; `folder` gets data/ and exp/."""

    folder: Path
    options: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        places = ["--data", str(self.folder / "data"), "--exp", str(self.folder / "exp")]
        return ["bash", str(ROOT / "egs/vctk/run.sh"), *places, *self.options]

    def start(self, log: Path) -> subprocess.Popen:
        """Start it as the leader of a process group of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with open(log, "ab") as file:
            return subprocess.Popen(
                self.command,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=environment,
                cwd=self.folder,
            )


def full_options() -> tuple[str, ...]:
    """The campaign's tiny configuration: all stages, two experiments that share a warm start."""
    options = ["--subset", "1", "--nj", "2", "--experiments", "l1_mrstft gan"]
    return (*options, "--conditions", CONDITIONS, "--train-opts", TINY)


Program = tuple[str, str]  # name, and its arguments without places


def running(recipe: Recipe, leader: int) -> tuple[Program, psutil.Process] | None:
    """The recipe's program that runs right now, and its process."""
    try:
        children = psutil.Process(leader).children()
    except psutil.Error:
        return None
    for child in children:
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        for place, word in enumerate(
            words[:7]
        ):  # behind python, or accelerate's launcher and its options
            if (name := Path(word).name) in STAGES:
                arguments = " ".join(words[place + 1 :]).replace(str(recipe.folder), "")
                return (name, arguments), child
    return None


def undisturbed(recipe: Recipe, log: Path) -> list[tuple[Program, float]]:
    """Run it to the end; returns its programs in order, and how long each took."""
    spans: list[tuple[Program, float]] = []
    current: Program | None = None
    process, since = recipe.start(log), 0.0
    while process.poll() is None:
        running_now = running(recipe, process.pid)
        program = running_now[0] if running_now else None
        if program != current:
            if current:
                spans.append((current, time.monotonic() - since))
            current, since = program, time.monotonic()
        time.sleep(_POLL_S)
    if process.returncode:
        sys.exit(f"the undisturbed run failed: {log.read_text()[-2000:]}")
    return spans


def moments(
    spans: list[tuple[Program, float]], count: int, draw: random.Random
) -> list[tuple[int, float]]:
    """(index of a program, seconds after its start) of every strike.

    The stages take turns, in the order of the run.
    """
    stages = list(dict.fromkeys(STAGES[name] for (name, _), _ in spans))
    turns = itertools.islice(itertools.cycle(draw.sample(stages, len(stages))), count)
    chosen = []
    for stage in turns:
        places = [place for place, ((name, _), _) in enumerate(spans) if STAGES[name] == stage]
        (place,) = draw.choices(places, [spans[place][1] for place in places])
        chosen.append((place, draw.uniform(0.0, spans[place][1])))
    return sorted(chosen)


Strike = Callable[[subprocess.Popen, random.Random], str]
KILL = "SIGKILL to the group"


def kill_the_group(process: subprocess.Popen, draw: random.Random) -> str:
    """SIGKILL to every process of the group at once; returns what was done."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return KILL


class Terminate:
    """SIGTERM to one process of the tree: the roles take turns, as far as they are there."""

    def __init__(self) -> None:
        self.counts: collections.Counter = collections.Counter()

    def __call__(self, process: subprocess.Popen, draw: random.Random) -> str:
        roles = roles_of(psutil.Process(process.pid))
        role = min(roles, key=lambda name: (self.counts[name], name))
        self.counts[role] += 1
        draw.choice(roles[role]).terminate()
        try:  # a worker that dies is replaced, but for a training's, which passes the signal on
            process.wait(timeout=600 if role == "worker" else 90)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"SIGTERM to {role}: run.sh does not end") from None
        return f"SIGTERM to {role}"


def roles_of(script: psutil.Process) -> dict[str, list[psutil.Process]]:
    """run.sh, the launcher, the program and its workers: the processes that there are."""
    roles: dict[str, list[psutil.Process]] = {"run.sh": [script]}
    for child in script.children():
        line = child.cmdline()
        if not any(Path(word).name in STAGES for word in line[:7]):
            continue
        launched = child.children() if any("accelerate" in word for word in line[:3]) else []
        if launched:
            roles["launcher"] = [child]
        for program in launched or [child]:
            roles.setdefault("program", []).append(program)
            if workers := program.children(recursive=True):
                roles["worker"] = workers
    return roles


def strike_at(
    recipe: Recipe, log: Path, program: Program, delay_s: float, strike: Strike, draw: random.Random
) -> tuple[str, str] | None:
    """Start the command, and strike `delay_s` after the program has begun.

    Returns the stage that was hit and what was done, or None where the command had ended before.
    Raises AssertionError for processes left over.
    """
    process = recipe.start(log)
    due = None
    while process.poll() is None:
        running_now = running(recipe, process.pid)
        if due is None and running_now and running_now[0] == program:
            due = time.monotonic() + delay_s
        if due is not None and time.monotonic() >= due:
            stage = STAGES[running_now[0][0]] if running_now else "between programs"
            tree = psutil.Process(process.pid).children(recursive=True)
            try:
                done = strike(process, draw)
            except psutil.NoSuchProcess:
                continue  # it has just ended by itself
            _, alive = psutil.wait_procs(tree, timeout=20)
            assert not alive, f"left over: {[left.cmdline() for left in alive]}"
            return stage, done
        time.sleep(_POLL_S)
    return None


def results(recipe: Recipe) -> dict[str, str]:
    """Name of every file that is compared -> digest of its content.

    The content is the samples of audio, the rows of a report, text without the folder's name.
    """
    digests = {}
    for path in sorted(recipe.folder.rglob("*")):
        inside = path.relative_to(recipe.folder)
        skipped = path.name in NOT_COMPARED or path.suffix == ".made"
        if not path.is_file() or skipped or {"tensorboard", "warm_starts"} & set(inside.parts):
            continue
        if path.suffix in (".wav", ".flac"):
            samples, rate = sf.read(path, dtype="float32")
            content = samples.tobytes() + str(rate).encode()
        elif path.suffix in (".safetensors", ".pt"):
            content = path.read_bytes()
        else:
            content = path.read_bytes().replace(str(recipe.folder).encode(), b"")
            content = _CONVERTED.sub(b"local/at/", content)
            if path.name == "RESULTS.md":
                content = b"\n".join(line for line in content.split(b"\n") if line.startswith(b"|"))
        name = _CONVERTED.sub(b"local/at/", str(inside).encode()).decode()
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def leftovers(recipe: Recipe) -> Iterator[Path]:
    """Half-written files and folders."""
    for path in recipe.folder.rglob("*"):
        if path.name.endswith(".part") or path.name.startswith((".mini", "tmp", ".tmp")):
            yield path


def processes_of(recipe: Recipe) -> list[list[str]]:
    """Command lines of processes that still work in the recipe's folder."""
    commands = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(recipe.folder) in word for word in words) and process.pid != os.getpid():
            commands.append(words)
    return commands


def differences(recipe: Recipe, reference: dict[str, str]) -> list[str]:
    """What the recipe's results do not share with the undisturbed run's; what was left over."""
    digests = results(recipe)
    bad = [
        f"{name}: differs"
        for name in digests.keys() & reference.keys()
        if digests[name] != reference[name]
    ]
    bad += [f"{name}: only in one of both" for name in digests.keys() ^ reference.keys()]
    bad += [f"{path}: left over" for path in leftovers(recipe)]
    return bad + [f"still running: {' '.join(words)}" for words in processes_of(recipe)]


def has_traceback(log: str) -> bool:
    """Whether a program of ours has shown a traceback.

    accelerate's launcher shows one of itself whenever its program has not ended with 0.
    """
    return any(
        "accelerate/commands/launch.py" not in shown for shown in log.split("Traceback (")[1:]
    )


@dataclasses.dataclass
class Figures:
    """What a campaign did."""

    hits: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    done: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    laps: int = 0
    compared: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)

    def show(self) -> str:
        lines = [f"{self.hits.total()} signals in {self.laps} laps"]
        lines += [f"  {count:3d} {what}" for what, count in sorted(self.done.items())]
        lines += [f"  {count:3d} in stage {stage}" for stage, count in sorted(self.hits.items())]
        lines.append(
            f"{self.compared} files compared with an undisturbed run, {len(self.bad)} wrong"
        )
        return "\n".join([*lines, *(f"  {line}" for line in self.bad)])


def campaign(
    folder: Path,
    options: tuple[str, ...],
    kills: int,
    seed: int,
    *,
    strike: Strike = kill_the_group,
    per_lap: int = KILLS_PER_LAP,
) -> Figures:
    """Strike `kills` times, in laps; every lap ends with a comparison."""
    draw, figures = random.Random(seed), Figures()
    folder.mkdir(parents=True, exist_ok=True)
    straight = Recipe(folder / "straight", options)
    spans = undisturbed(straight, folder / "straight.log")
    reference = results(straight)
    hurry = 1.0  # the machine may be quicker now than in the undisturbed run
    while figures.hits.total() < kills and not figures.bad:
        figures.laps += 1
        recipe, log = (
            Recipe(folder / f"lap{figures.laps}", options),
            folder / f"lap{figures.laps}.log",
        )
        for place, delay_s in moments(spans, min(per_lap, kills - figures.hits.total()), draw):
            try:
                hit = strike_at(recipe, log, spans[place][0], hurry * delay_s, strike, draw)
            except AssertionError as error:
                figures.bad.append(str(error))
                break
            if hit is None:
                hurry /= 2
                break  # it had nothing left to do: the lap is over
            hurry = 1.0
            figures.hits[hit[0]] += 1
            figures.done[hit[1]] += 1
        last = recipe.start(log)
        if last.wait():
            figures.bad.append(f"the last command of lap {figures.laps} failed: see {log}")
        figures.compared += len(reference)
        figures.bad += differences(recipe, reference)
        print(
            f"lap {figures.laps}: {figures.hits.total()} kills so far", file=sys.stderr, flush=True
        )
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=0, help="SIGKILL to the whole group, so often")
    parser.add_argument("--terms", type=int, default=0, help="SIGTERM to one process, so often")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="kept, for a look at what went wrong (a temporary one)"
    )
    arguments = parser.parse_args()
    kinds: dict[str, tuple[int, Strike, tuple[str, ...]]] = {
        "kills": (arguments.kills, kill_the_group, ()),
        "terms": (arguments.terms, Terminate(), ("--ngpu", "1")),  # by accelerate's launcher
    }
    bad = False
    with tempfile.TemporaryDirectory() as temporary:
        for kind, (count, strike, more) in kinds.items():
            if count:
                folder = (arguments.folder or Path(temporary)).resolve() / kind
                options = (*full_options(), *more)
                figures = campaign(folder, options, count, arguments.seed, strike=strike)
                print(figures.show(), flush=True)
                bad = bad or bool(figures.bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
