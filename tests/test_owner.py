"""One writer at a time, and nothing half-written left of one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_denoise.errors import InputError
from gan_denoise.system.owner import owning

HOLD = "import sys, time; from pathlib import Path; from gan_denoise.system.owner import owning\n"
HOLD += "with owning(*map(Path, sys.argv[1:])): print('mine', flush=True); time.sleep(60)"


def holder(*folders: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, folders)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "mine\n"
    return process


def test_a_folder_has_one_writer_and_a_killed_one_leaves_it(tmp_path: Path) -> None:
    process = holder(tmp_path / "exp")
    with (
        pytest.raises(
            InputError, match=f"exp: is being written by .*process {process.pid} on .*: wait for it"
        ),
        owning(tmp_path / "other", tmp_path / "exp", busy="refuse"),
    ):
        pass
    with owning(tmp_path / "other"):  # what the refused one had taken is free again
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with owning(tmp_path / "exp"):
        pass


def test_what_a_killed_writer_left_is_removed_but_not_what_another_owns(tmp_path: Path) -> None:
    for name in (
        ".a.wav.x1.part",
        "deep/.b.part",
        ".mini.part/c.wav",
        "other/.d.part",
        "kept.part",
        ".kept",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    process = holder(tmp_path / "other")
    (tmp_path / "other/.d.part").write_text("")  # of the other owner, at work
    with owning(tmp_path):
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"kept.part", ".kept", "other/.d.part", "other/.lock", ".lock"}
    process.kill()
    process.wait()
    with owning(tmp_path / "other"):
        assert not (tmp_path / "other/.d.part").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_used_without_a_lock(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with owning(tmp_path):
        pass


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with owning(tmp_path):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    process = holder(tmp_path)
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_a_program_that_had_to_wait_reads_again_what_it_had_read(tmp_path: Path) -> None:
    """A short step beside another run's."""
    program = "import sys; from pathlib import Path; from gan_denoise.system.owner import owning\n"
    program += "from gan_denoise.system.terminal import program\n"
    program += "@program\ndef main():\n    known = (place / 'known').read_text()\n"
    program += "    with owning(place):\n        print(known)\nplace = Path(sys.argv[1])\nmain()"
    (tmp_path / "known").write_text("old")
    process = holder(tmp_path)
    second = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert second.stderr
    said = second.stderr.readline()
    assert f"is being written by -c, process {process.pid}" in said and "waiting for it" in said
    (tmp_path / "known").write_text("new")
    process.kill()
    process.wait()
    assert second.communicate(timeout=30) == ("new\n", "")
    assert second.returncode == 0
