"""What surrounds a program does not decide its result.

That is closed streams, locales, long TMPDIRs, signals, full disks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from conftest import ROOT, one_error_line, run, speech_like, wait_for, write
from gan_denoise import audio, generators
from gan_denoise.system import workers
from gan_denoise.system.files import writing
from gan_denoise.system.terminal import Terminated, program, say
from small_models import SMALL, save


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    save(folder / "model", SMALL["causal"], generators.build(SMALL["causal"], sample_rate=16000))
    for number in range(2):
        write(folder / f"in/{number}.wav", speech_like(number))
    return folder


def test_closed_streams_cost_no_result(place: Path) -> None:
    enhance, score = (
        f"gan-denoise enhance --model {place}/model {place}/in/0.wav",
        "gan-denoise score --metrics si_sdr",
    )
    script = f"""
        cd {place}
        {enhance} all.wav >&- 2>&- <&- || exit 1
        {enhance} err.wav 2>/dev/full || exit 2
        {score} --csv open.csv in/0.wav all.wav || exit 3
        {score} --csv closed.csv in/0.wav all.wav >&- 2>&- <&- || exit 4
    """
    result = run("bash", "-c", script)
    assert result.returncode == 0, result
    assert (place / "all.wav").read_bytes() == (place / "err.wav").read_bytes()
    assert (place / "open.csv").read_bytes() == (place / "closed.csv").read_bytes()


def test_a_stream_without_its_ends_is_one_line(place: Path) -> None:
    one_error_line(run("bash", "-c", "gan-denoise stream - - <&-"), "standard input is closed")
    one_error_line(
        run("bash", "-c", "gan-denoise stream - - </dev/null >&-"), "standard output is closed"
    )


def test_a_full_disk_leaves_the_means_on_the_terminal(place: Path) -> None:
    """CSV and standard output apart: what can be told is told, then the error."""
    command = (
        f"gan-denoise score --metrics si_sdr --csv /proc/absent.csv {place}/in/0.wav"
        f" {place}/in/0.wav"
    )
    result = run("bash", "-c", command)
    one_error_line(result, "/proc/absent.csv")
    assert result.stdout.split() == ["si_sdr", "100.000", "1", "of", "1", "utterances"]
    result = run(
        "bash",
        "-c",
        f"gan-denoise score --metrics si_sdr {place}/in/0.wav {place}/in/0.wav >/dev/full",
    )
    one_error_line(result, "standard output: No space left on device")


def test_any_locale(place: Path, tmp_path: Path) -> None:
    write(tmp_path / "in/日本語.wav", speech_like(0))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run(
        "gan-denoise", "enhance", "--model", place / "model", "in", "out", cwd=tmp_path, env=plain
    )
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["日本語.wav"]
    result = run(
        "python", "-m", "gan_denoise", "enhance", "in/日本.wav", "x.wav", cwd=tmp_path, env=plain
    )
    one_error_line(result, "in/日本.wav: no such file")


def test_names_that_are_not_utf8(place: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.wav")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes((place / "in/0.wav").read_bytes())
    result = run("gan-denoise", "enhance", "--model", place / "model", "in", "out", cwd=tmp_path)
    assert result.returncode == 0 and [path.name for path in (tmp_path / "out").iterdir()] == [name]
    one_error_line(
        run("gan-denoise", "corrupt", "in", "noisy", cwd=tmp_path), "is not UTF-8: rename it"
    )


def test_a_long_tmpdir(place: Path, tmp_path: Path) -> None:
    """The path of the workers' socket may have about 100 bytes."""
    long = tmp_path / ("t" * 139)
    long.mkdir()
    result = run(
        "gan-denoise",
        "score",
        "--metrics",
        "si_sdr",
        place / "in",
        place / "in",
        env={"TMPDIR": str(long)},
    )
    assert result.returncode == 0 and "2 of 2 utterances" in result.stdout, result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_one_line_and_leaves_nothing(place: Path, tmp_path: Path, number: Any) -> None:
    """During the work, by a worker process: what is half written goes with it."""
    write(tmp_path / "in/a.wav", np.tile(speech_like(0), 600))
    write(tmp_path / "in/b.wav", np.tile(speech_like(0), 600))
    (tmp_path / "out").mkdir()
    command = [
        sys.executable,
        "-m",
        "gan_denoise",
        "enhance",
        "--jobs",
        "2",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: _writers(process.pid, tmp_path / "out") == 2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said.count("\n") == 1 and said.startswith(("terminated", "interrupted")), said
    assert not list((tmp_path / "out").iterdir())


def _writers(pid: int, folder: Path) -> int:
    """How many descendants of the process have a file open in the folder."""
    count = 0
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(OSError):
            links = [os.readlink(link) for link in Path(f"/proc/{child.pid}/fd").iterdir()]
            count += any(link.startswith(str(folder)) for link in links)
    return count


def test_a_signal_before_the_program_is_imported(tmp_path: Path) -> None:
    """The first half second: no traceback."""
    starter = "import os, signal, sys; sys.modules['numpy'] = None\n"
    starter += "from gan_denoise.system.terminal import program\n"
    starter += (
        "@program\ndef main():\n    os.kill(os.getpid(), signal.{})\n    import time;"
        " time.sleep(9)\nmain()"
    )
    for name, status, word in (
        ("SIGTERM", 143, "terminated (SIGTERM)"),
        ("SIGINT", 130, "interrupted"),
    ):
        result = run("python", "-c", starter.format(name))
        assert (result.returncode, result.stderr) == (status, f"{word}\n")


def test_nothing_is_left_of_a_writer_that_was_killed(tmp_path: Path) -> None:
    """The file has no name before it is whole."""
    program = "import os, signal, sys; from gan_denoise.system.files import writing\n"
    program += (
        "with writing(sys.argv[1]) as file:\n    file.write(b'half'); file.flush();"
        " os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        result = run("python", "-c", program, tmp_path / "a")
        assert result.returncode == -signal.SIGKILL
        assert [path.name for path in tmp_path.iterdir()] == (
            ["a"] if (tmp_path / "a").exists() else []
        )
        (tmp_path / "a").write_text("old")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_file_appears_whole_under_the_longest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:  # as on file systems that have no files without a name
        monkeypatch.setattr("gan_denoise.system.files._unnamed", lambda folder: None)
    path = tmp_path / ("n" * 251 + ".wav")
    for content in (b"first", b"second"):
        with writing(path) as file:
            file.write(content)
            assert not path.exists() or path.read_bytes() == b"first"
        assert path.read_bytes() == content and path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(Terminated), writing(path) as file:
        raise Terminated(signal.SIGTERM)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def _odd(item: int) -> int:
    return {0: [], 1: [1]}[item][0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_no_exception_takes_the_other_items_along(jobs: int) -> None:
    outcomes = {outcome.item: outcome for outcome in workers.each(_odd, [0, 1, 2], jobs=jobs)}
    assert outcomes[1].result == 1
    for item, name in ((0, "IndexError"), (2, "KeyError")):
        reason = outcomes[item].reason or ""
        assert f"unexpected {name} (test_surroundings.py:" in reason, reason


def test_what_cannot_be_said_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", open("/dev/full", "w"))  # noqa: SIM115
    say("lost")
    monkeypatch.setattr(sys, "stderr", None)
    say("lost")

    @program
    def main() -> int:
        say("lost")
        return 3

    with pytest.raises(SystemExit, match="3"):
        main()
    assert audio.SUFFIXES  # the library is at hand as before


def test_a_program_works_with_its_own_clones_library_or_a_copy_of_that(tmp_path: Path) -> None:
    library, program_ = tmp_path / "gan_denoise", tmp_path / "recipes/train.py"
    for path in (ROOT / "gan_denoise").rglob("*.py"):
        write_text(library / path.relative_to(ROOT / "gan_denoise"), path.read_text())
    write_text(
        program_,
        "from gan_denoise.system.terminal import program\nmain = program(lambda: 0)\nmain()",
    )
    assert run("python", program_).returncode == 0  # as with an installed copy
    with (library / "corruption/mix.py").open("a") as file:
        file.write("# another clone's\n")
    places = str(library), str(ROOT / "gan_denoise"), f"PYTHONPATH={tmp_path}"
    one_error_line(run("python", program_), *places)
    assert run("python", program_, env={"PYTHONPATH": str(tmp_path)}).returncode == 0


def test_without_its_environment_a_training_says_what_is_missing() -> None:
    command = ["python", "-S", "-E", ROOT / "recipes/train.py"]
    one_error_line(run(*command), "torch is not here", "path.sh")


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
