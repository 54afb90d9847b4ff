"""path.sh: an environment that moved is mended, and two first commands make one."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from conftest import ROOT, run


def test_a_moved_repository_mends_its_environment_without_a_network(tmp_path: Path) -> None:
    """A small repository is made at one place and used at another.

    Its environment borrows the packages of this one.
    """
    old, new = tmp_path / "old place", tmp_path / "new 'place'"
    (old / "egs/vctk").mkdir(parents=True)
    (old / "egs/vctk/path.sh").write_bytes((ROOT / "egs/vctk/path.sh").read_bytes())
    (old / "requirements.lock").write_text("")
    (old / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "small"\nversion = "1"\nscripts.small = "small:main"\n'
        '[tool.setuptools]\npy-modules = ["small"]\n'
    )
    (old / "small.py").write_text("def main(): print(__file__)\n")
    venv.create(old / ".venv", with_pip=False, symlinks=True)
    (packages,) = (old / ".venv/lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    offline = {"PIP_NO_INDEX": "1", "PIP_INDEX_URL": "", "PYTHONPATH": ""}
    pip = [
        old / ".venv/bin/python",
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-e",
        old,
    ]
    result = run(*pip, env=offline)
    assert result.returncode == 0, result.stderr
    lock = run("bash", "-c", "cksum < requirements.lock | tr ' ' -", cwd=old).stdout.strip()
    (old / f".venv/installed-{lock}").write_text(f"{old}/.venv\n")
    source = ["bash", "-c", ". egs/vctk/path.sh && small && echo $VIRTUAL_ENV"]
    result = run(*source, cwd=old, env=offline)
    assert result.stdout.splitlines() == [f"{old}/small.py", f"{old}/.venv"] and not result.stderr
    old.rename(new)
    result = run(*source, cwd=new, env=offline)
    assert result.stdout.splitlines() == [f"{new}/small.py", f"{new}/.venv"], result.stderr
    assert f"was made as {old}/.venv" in result.stderr
    assert not run(*source, cwd=new, env=offline).stderr  # mended once


def test_two_first_commands_make_one_environment(tmp_path: Path) -> None:
    """The second waits. A stand-in for python makes environments that hold only itself."""
    (tmp_path / "egs/vctk").mkdir(parents=True)
    (tmp_path / "egs/vctk/path.sh").write_bytes((ROOT / "egs/vctk/path.sh").read_bytes())
    (tmp_path / "requirements.lock").write_text("")
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$1 $2" in "- ") exec {sys.executable} - ;; "-m venv") ;; *) exit 0 ;; esac\n'
        f"echo made >>{tmp_path}/calls && sleep 0.5\n"
        'mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && : >"$3/bin/activate"\n'
    )
    python.chmod(0o755)
    command = ["bash", "-c", ". egs/vctk/path.sh && echo ready"]
    both = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHON": str(python)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [output for output, _ in said] == ["ready\n"] * 2, said
    assert sum("Waiting for another command" in errors for _, errors in said) == 1, said
    assert (tmp_path / "calls").read_text() == "made\n"

    (tmp_path / "requirements.lock").write_text("another")
    with (tmp_path / ".venv/making").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(
            command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert waiting.stderr and "Waiting for another command" in waiting.stderr.readline()
        os.killpg(waiting.pid, signal.SIGINT)  # Ctrl-C, which does not go on without the lock
        assert "Making" not in waiting.communicate(timeout=60)[1] and waiting.returncode != 0
