"""The workers of a search as an array job of Slurm.

sbatch alone starts them, as in run.sh --cmd slurm: every task is the command that started the
search.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from gan_denoise.errors import InputError

_JOB = Path(__file__).resolve().parents[2] / "egs/vctk/local/slurm_job.sh"
_ONE_PROCESS = ("array", "nodes", "ntasks", "ntasks-per-node")  # are not the user's to say


def sbatch_options(written: str) -> list[str]:
    """`partition=gpu,time=8:00:00` as options of sbatch.

    A comma may also be within a value. Raises InputError.
    """
    options = []
    for option in filter(None, re.split(r",\s*(?=[a-z-]+=|exclusive(?:,|$))", written.strip())):
        key = option.partition("=")[0]
        if not re.match(r"[a-z]", option):
            raise InputError(
                "--slurm: expected KEY=VALUE,KEY=VALUE as sbatch has them, such as"
                f' partition=gpu,time=8:00:00; found "{option}"'
            )
        if key in _ONE_PROCESS:
            raise InputError(f"--slurm: {key}: a worker is one process on one node; see --workers")
        options.append(f"--{option}")
    return options


def submit(name: str, workers: int, options: list[str], logs: Path, **environment: str) -> str:
    """Queue this command `workers` times, with variables in the environment.

    Returns the job's id. A task that is preempted, or has two minutes left, is queued again. Raises
    InputError.
    """
    if shutil.which("sbatch") is None:
        raise InputError(
            "--cmd slurm: there is no sbatch here: start it where Slurm's jobs are submitted"
        )
    logs.mkdir(parents=True, exist_ok=True)
    command = ["sbatch", "--parsable", "--requeue", "--open-mode=append", f"--job-name={name}"]
    command += [f"--output={logs / name}-%A_%a.log", f"--array=1-{workers}", "--signal=TERM@120"]
    command += [*options, str(_JOB), str(_JOB), str(logs / name)]
    command += [sys.executable, *sys.orig_argv[1:]]
    result = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason"])[-1]
        raise InputError(f"--cmd slurm: sbatch refused {name}: {reason}")
    return result.stdout.strip().partition(";")[0]


def is_queued(job: str) -> bool:
    """Whether a task of the array waits or runs; where Slurm does not answer, it may restart."""
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%F"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode != 0 or job in result.stdout.split()


def cancel(job: str) -> None:
    """Of what has ended already, nothing."""
    subprocess.run(["scancel", job], capture_output=True, check=False)


def last_error(logs: Path, name: str, job: str) -> str:
    """What the tasks of a job have said of why they ended, or where they say it."""
    for path in sorted(logs.glob(f"{name}-{job}_*.log")):
        with contextlib.suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()
            if errors := [line for line in lines if line.startswith("error: ")]:
                return f"{errors[-1].removeprefix('error: ')} ({path})"
    return f"see {logs / name}-{job}_*.log"
