"""Worker processes: that die, hang or are killed alone; what they import and where they find it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import gan_denoise
from conftest import run
from gan_denoise.errors import InputError
from gan_denoise.system import workers


def misbehave(item: str) -> str:
    if item == "die":
        os.kill(os.getpid(), 11)
    if item == "hang":
        time.sleep(60)
    if item == "refuse":
        raise InputError("no, thank you")
    return item.upper()


def test_workers_may_die_or_hang_alone() -> None:
    outcomes = list(
        workers.each(misbehave, ["a", "die", "b", "hang", "c", "refuse"], jobs=2, timeout_s=5)
    )
    by_item = {outcome.item: outcome for outcome in outcomes}
    assert {
        item: outcome.result for item, outcome in by_item.items() if outcome.reason is None
    } == {
        "a": "A",
        "b": "B",
        "c": "C",
    }
    reasons = {item: outcome.reason or "" for item, outcome in by_item.items()}
    assert "died" in reasons["die"] and "too long" in reasons["hang"]
    assert reasons["refuse"] == "no, thank you"


@pytest.mark.parametrize("imported", [1, 2])
def test_workers_import_the_program_only_where_they_need_it(imported: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from gan_denoise.system import workers\n"
        'print("imported", flush=True)\n'
        'if __name__ == "__main__":\n'
        f"    options = dict(always_isolated=True, imports_program={imported == 2})\n"
        '    (outcome,) = workers.each(str.upper, ["done"], jobs=1, **options)\n'
        "    print(outcome.value(), __file__)\n"
    )
    result = run("python", script)
    assert result.stdout == imported * "imported\n" + f"DONE {script}\n", result.stderr
    program = (
        "import __main__, multiprocessing.forkserver, gan_denoise.system.workers\n"
        "with gan_denoise.system.workers._program_hidden(): pass\n"
        "assert not hasattr(__main__, '__file__')\n"
        # no process is started for no work
        "assert not list(gan_denoise.system.workers.each(len, [], jobs=2))\n"
        "assert multiprocessing.forkserver._forkserver._forkserver_pid is None"
    )
    assert run("python", "-c", program).returncode == 0


def test_workers_find_modules_where_the_program_does(tmp_path: Path) -> None:
    """Whatever lies in the working directory."""
    program, other = tmp_path / "program", tmp_path / "other"
    program.mkdir()
    for name in ("tool", "gan_denoise"):
        (other / name).mkdir(parents=True)
    (program / "tool.py").write_text(
        "import gan_denoise\ndef where(item): return __file__, gan_denoise.__file__\n"
    )
    (program / "script.py").write_text(
        "import tool\nfrom gan_denoise.system import workers\n"
        'if __name__ == "__main__":\n'
        "    print(*next(workers.each(tool.where, [0], jobs=1, always_isolated=True)).value())\n"
    )
    result = run("python", program / "script.py", cwd=other)
    assert result.stdout == f"{program / 'tool.py'} {gan_denoise.__file__}\n", result.stderr


def killed_at_first(path: Path) -> str:
    if not path.exists():
        path.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def server_killed_at_first(path: Path) -> str:
    if not path.exists():
        path.write_text("")
        os.kill(os.getppid(), signal.SIGTERM)  # the server that makes the workers
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    return "done"


def test_work_goes_on_when_the_server_of_the_workers_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PRELOADED", [])  # what the next server need not import
    paths = [tmp_path / str(number) for number in range(12)]
    for path in paths[1:]:
        path.write_text("")
    outcomes = list(workers.each(server_killed_at_first, paths, jobs=2))
    assert sorted(outcome.item for outcome in outcomes) == sorted(paths)
    assert [outcome.result for outcome in outcomes] == ["done"] * 12, outcomes


def test_an_item_whose_worker_was_killed_from_outside_is_tried_again(tmp_path: Path) -> None:
    (outcome,) = workers.each(killed_at_first, [tmp_path / "here"], jobs=1, always_isolated=True)
    assert outcome.result == "done" and not outcome.reason


def test_processes_start_though_their_servers_socket_was_cleaned_away() -> None:
    code = (
        "import multiprocessing.util, os, shutil; from gan_denoise.system import workers\n"
        "for _ in range(2):\n"
        "    process = workers.forkserver(imports_program=False).Process(target=os.getpid)\n"
        "    process.start(); process.join(); print(process.exitcode)\n"
        "    shutil.rmtree(multiprocessing.util.get_temp_dir())"
    )
    result = run("python", "-c", code)
    assert (result.stdout, result.stderr) == ("0\n0\n", "")
