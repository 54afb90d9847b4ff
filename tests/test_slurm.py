"""run.sh --cmd slurm on a real Slurm of two nodes (slurm.sh), against the same run without."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from conftest import ROOT, local, needs_slurm, one_error_line, queued, run, wait_for

RUN = ROOT / "egs/vctk/run.sh"
TINY = (
    "steps=6 warm_start_steps=3 discriminator_steps=2 batch_size=2 segment_s=0.5 workers=0"
    " checkpoint_every=2 validate_utterances=1 generator.width=8 generator.blocks=1"
)
ON_THE_CLUSTER = ["--cmd", "slurm", "--nj", "2"]

pytestmark = needs_slurm


def recipe(*options: Any, **others: Any) -> subprocess.CompletedProcess:
    return run("bash", RUN, *options, **others)


def jobs(cluster: dict[str, str]) -> str:
    """What is queued or runs, a line each."""
    return run("squeue", "--noheader", env=cluster).stdout


def outcome(folder: Path) -> dict[str, bytes]:
    """All that a run was made for."""
    names = ("*.wav", "*.csv", "model.safetensors", "*.scp", "*.made")
    files = [
        path for name in names for path in folder.rglob(name) if "validation" not in path.parts
    ]
    here = str(folder).encode()
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(here, b"HERE") for path in files
    }


def test_jobs_do_what_one_machine_does(
    cluster: dict[str, str], plain_corpus: Path, tmp_path: Path
) -> None:
    """Also where a training is queued again in its middle, by an administrator."""
    here, there = tmp_path / "here", tmp_path / "there"
    options = ["--corpus", plain_corpus, "--conditions", "", "--experiments", "l1"]
    options += ["--train-opts", TINY.replace("steps=6 ", "steps=60 ", 1)]
    command = [*options, "--data", there / "data", "--exp", there / "exp", *ON_THE_CLUSTER]
    with subprocess.Popen(
        ["bash", RUN, "--stage", "0", *map(str, command)],
        env=os.environ | cluster,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as program:
        wait_for((there / "exp/l1/checkpoint.pt").exists, seconds=180.0)
        training = wait_for(lambda: queued(cluster, "train-l1", "RUNNING"), every_s=0.3)
        assert run("scontrol", "requeue", training, env=cluster).returncode == 0
        said, _ = program.communicate(timeout=200)
    assert program.returncode == 0, said
    log = (there / f"exp/slurm/train-l1-{training}.log").read_text()
    assert "interrupted" in log and "start 2" in log and "finished" in log
    assert "slurm: train-l1" in said and "| l1" in said
    assert " --conditions '' " in (there / "exp/RESULTS.md").read_text()

    folders = ["--data", here / "data", "--exp", here / "exp"]
    result = recipe("--stage", 0, "--stop-stage", 4, *options, *folders)
    assert result.returncode == 0, result.stderr
    expected, actual = outcome(here), outcome(there)
    assert len(expected) > 40 and expected == actual

    again = recipe("--stage", 4, "--stop-stage", 4, *command, env=cluster)
    assert again.returncode == 0 and outcome(there) == actual, again.stderr
    logs = sorted((there / "exp/slurm").glob("score*.log"), key=lambda path: path.stat().st_mtime)
    assert all("scored" not in log.read_text() for log in logs[-3:])


def test_one_that_fails_ends_all_with_its_line(
    cluster: dict[str, str], prepared: Path, tmp_path: Path
) -> None:
    folders = ["--data", prepared, "--exp", tmp_path / "exp", "--experiments", "l1"]
    asked = ["--stage", 2, "--conditions", "", *folders, *ON_THE_CLUSTER]
    result = recipe(*asked, "--train-opts", f"{TINY} optimizer.lr=1e30", env=cluster)
    one_error_line(result, "train-l1", "exit status 1", "not finite", "optimizer.lr")
    wait_for(lambda: not jobs(cluster), every_s=0.3)
    one_error_line(recipe(*asked, "--slurm", "partition=none", env=cluster), "sbatch refused")
    one_error_line(recipe(*asked, "--slurm", "time=9,nodes=2", env=cluster), "needs --ngpu")
    (tmp_path / "bad.conf").write_text(
        "no such key\n"
    )  # where there is none squeue tries for a minute
    nowhere = {"SLURM_CONF": str(tmp_path / "bad.conf")}
    one_error_line(recipe(*asked, env=nowhere), "squeue finds no Slurm", "--cmd local")


def test_a_cancelled_run_is_repeated(
    cluster: dict[str, str], plain_corpus: Path, tmp_path: Path
) -> None:
    folders = ["--data", tmp_path / "data", "--exp", tmp_path / "exp"]
    asked: list[Any]
    asked = ["--stage", 0, "--stop-stage", 1, "--corpus", plain_corpus, "--conditions", "clean"]
    asked += [*folders, *ON_THE_CLUSTER]
    command = ["bash", str(RUN), *map(str, asked)]
    with subprocess.Popen(
        command, env=os.environ | cluster, stderr=subprocess.PIPE, text=True
    ) as program:
        wait_for(lambda: jobs(cluster), every_s=0.3)
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=30)
    assert program.returncode == 128 + signal.SIGTERM and "all jobs are cancelled" in said
    wait_for(lambda: not jobs(cluster), every_s=0.3)
    assert not (tmp_path / "data/test_clean/noisy.scp").exists()
    result = recipe(*asked, env=cluster)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/test_clean/noisy.scp").exists()


def test_a_training_that_was_cancelled_does_not_come_back(
    cluster: dict[str, str], prepared: Path, tmp_path: Path
) -> None:
    command = ["bash", RUN, "--stage", 2, "--stop-stage", 2, "--conditions", "", "--data", prepared]
    command += ["--exp", tmp_path, "--experiments", "l1", *ON_THE_CLUSTER]
    command += ["--train-opts", TINY.replace("steps=6 ", "steps=100000 ", 1)]
    with subprocess.Popen(
        [*map(str, command)], env=os.environ | cluster, stderr=subprocess.DEVNULL
    ) as program:
        wait_for((tmp_path / "l1/checkpoint.pt").exists)
        program.send_signal(signal.SIGTERM)
    wait_for(lambda: not jobs(cluster), every_s=0.3)
    (log,) = (tmp_path / "slurm").glob("train-l1-*.log")
    assert "interrupted" in log.read_text()


def test_two_runs_share_a_folder_of_results(
    cluster: dict[str, str], prepared: Path, tmp_path: Path
) -> None:
    """Each waits for its own jobs, whose exit statuses the other does not touch."""
    folders = ["--data", prepared, "--exp", tmp_path, "--conditions", ""]
    asked = ["--stage", 2, "--stop-stage", 2, *folders, *ON_THE_CLUSTER, "--train-opts", TINY]
    command = ["bash", RUN, *asked, "--experiments", "l1"]
    with subprocess.Popen(
        [*map(str, command)], env=os.environ | cluster, stderr=subprocess.PIPE, text=True
    ) as first:
        wait_for(
            lambda: queued(cluster, "train-l1", "RUNNING"), every_s=0.3
        )  # its first job has ended
        second = recipe(*asked, "--experiments", "l1_mrstft", env=cluster)
        _, said = first.communicate(timeout=200)
    assert (first.returncode, second.returncode) == (0, 0), said + second.stderr


def test_a_part_is_every_nth_recording(prepared: Path, tmp_path: Path) -> None:
    data = tmp_path / "data/test"
    shutil.copytree(prepared / "test", data, ignore=shutil.ignore_patterns("noisy*", "noise.yaml"))
    corrupt = partial(local, "corrupt", "--no-audit")
    assert corrupt("--part", "2/3", data).returncode == 0
    assert len(list(data.rglob("*.wav"))) == 1 and not (data / "noisy.scp").exists()
    assert corrupt(data).returncode == 0
    assert (data / "noisy.made").read_bytes() == (prepared / "test/noisy.made").read_bytes()
    assert not list(data.glob("noisy.made.*"))
    refused = corrupt("--part", "4/3", data)
    assert refused.returncode == 2 and "expected K/N with K from 1 to N" in refused.stderr
