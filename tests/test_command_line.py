"""gan-denoise as scripts use it: several inputs, pipes, JSON, silence, dry runs, a limit in dB."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile as sf

import gan_denoise
from conftest import cli, one_error_line, run, speech_like, write
from gan_denoise import audio
from gan_denoise.cli import parser
from gan_denoise.enhance import Denoiser, mix_for_limit


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Two recordings, a folder with one and a text, and the folder they lie in."""
    write(tmp_path / "a.wav", speech_like(0, 0.3))
    write(tmp_path / "b.flac", speech_like(1, 0.3))
    write(tmp_path / "more/c.wav", speech_like(2, 0.3))
    (tmp_path / "more/notes.txt").write_text("notes")
    return tmp_path


def test_several_inputs_go_into_a_folder(three: Path, model_dir: Path) -> None:
    inputs = (three / "a.wav", three / "b.flac", three / "more")
    result = cli("enhance", "--model", model_dir, *inputs, three / "out")
    assert result.returncode == 0 and "3 of 3 files done" in result.stderr, result.stderr
    written = sorted(str(path.relative_to(three / "out")) for path in audio.find(three / "out"))
    assert written == ["a.wav", "b.flac", "more/c.wav"]
    expected = gan_denoise.load(model_dir)(audio.read_mono(three / "a.wav")[0], 16000)
    np.testing.assert_allclose(audio.read_mono(three / "out/a.wav")[0], expected, atol=1 / 32768)


@pytest.mark.parametrize(
    "names, out, words",
    [
        (("a.wav", "b.flac"), "b.wav", "there are several inputs, so OUT has to be a folder"),
        (("a.wav", "b.flac"), "out.scp", "there are several inputs, so OUT has to be a folder"),
        (("a.wav", "a.wav"), "out", "would be written from"),
        (("a.wav", "absent.wav"), "out", "no such file"),
        (("a.wav", "b.flac"), ".", "is an input file"),
        (("-", "a.wav"), "out", "hold one recording"),
    ],
)
def test_what_several_inputs_cannot_be(
    three: Path, names: tuple[str, ...], out: str, words: str
) -> None:
    inputs = [name if name == "-" else three / name for name in names]
    before = (three / "a.wav").read_bytes()
    one_error_line(cli("enhance", "--overwrite", "--mix", 0, *inputs, three / out), words)
    assert (three / "a.wav").read_bytes() == before and not (three / "out").exists()


def piped(*words: object, content: bytes = b"") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "gan_denoise", *map(str, words)]
    return subprocess.run(command, input=content, capture_output=True, timeout=120)


def test_a_recording_goes_through_pipes(three: Path) -> None:
    content = (three / "a.wav").read_bytes()
    result = piped("enhance", "--mix", 0, "-", "-", content=content)
    assert result.returncode == 0, result.stderr
    samples, rate = sf.read(io.BytesIO(result.stdout), dtype="float32")
    expected, expected_rate = audio.read_mono(three / "a.wav")
    np.testing.assert_array_equal(samples, expected)
    assert rate == expected_rate
    result = piped("enhance", "--mix", 0, "-", three / "c.flac", content=content)
    np.testing.assert_array_equal(audio.read_mono(three / "c.flac")[0], expected)
    result = piped("enhance", "-", "-", content=b"no audio")
    assert result.returncode == 1 and result.stdout == b""
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("error: standard input: cannot be decoded")
    result = piped("enhance", "--json", "-", "-", content=content)
    assert result.returncode == 1 and result.stdout == b"" and b"--json" in result.stderr


def test_scripts_read_json(three: Path, model_dir: Path) -> None:
    (three / "more/bad.wav").write_text("no audio")
    write(three / "out/c.wav", speech_like(0, 0.1))
    options = ("--json", "--model", model_dir)
    result = cli("enhance", *options, three / "more", three / "out")
    assert result.returncode == 1 and result.stderr == ""
    entries = {entry["status"]: entry for entry in map(json.loads, result.stdout.splitlines())}
    assert entries["skipped"]["output"] == str(three / "out/c.wav")
    error = entries["failed"]["error"]
    assert error["where"] == entries["failed"]["input"] == str(three / "more/bad.wav")
    assert "cannot be decoded" in error["problem"] and error["remedy"] == "replace or remove it"
    (line,) = cli("corrupt", "--json", three / "a.wav", three / "d.wav").stdout.splitlines()
    written = {"input": str(three / "a.wav"), "output": str(three / "d.wav"), "status": "done"}
    assert json.loads(line) == written
    result = cli("score", "--json", "--metrics", "si_sdr", three / "a.wav", three / "d.wav")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert row["utt_id"] == "a" and row["si_sdr"] > 0


def test_quiet_says_what_fails_alone(three: Path, model_dir: Path) -> None:
    options = ("-q", "--model", model_dir)
    result = cli("enhance", *options, three / "more", three / "out")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    (three / "more/bad.wav").write_text("no audio")
    result = cli("enhance", *options, three / "more", three / "out")
    assert result.stderr.count("\n") == 1 and "bad.wav: cannot be decoded" in result.stderr


def test_a_dry_run_names_files_and_writes_none(three: Path) -> None:
    write(three / "out/c.wav", speech_like(0, 0.1))
    (three / "more/d.wav").write_bytes((three / "a.wav").read_bytes())
    result = cli("enhance", "--dry-run", "--model", "nowhere", three / "more", three / "out")
    first, second = result.stdout.splitlines()
    assert first == f"{three}/more/c.wav -> {three}/out/c.wav (exists, skipped)"
    assert second == f"{three}/more/d.wav -> {three}/out/d.wav" and result.returncode == 0
    assert [path.name for path in (three / "out").iterdir()] == ["c.wav"]


@pytest.mark.parametrize("command", [("enhance", "--mix", 0), ("corrupt",)])
def test_a_slash_says_that_out_is_a_folder(three: Path, command: tuple[object, ...]) -> None:
    for out, name in ((f"{three}/new/", "new/a.wav"), (f"{three}/new.wav/", "new.wav/a.wav"),
                      (f"{three}/deep/new.scp//", "deep/new.scp/a.wav")):  # fmt: skip
        result = cli(*command, three / "a.wav", out)
        assert result.returncode == 0 and (three / name).is_file(), result.stderr
        one_error_line(cli(*command, three / "a.wav", out), f"{name}: exists", "--overwrite")
    one_error_line(cli(*command, three / "a.wav", f"{three}/a.wav/"), "a.wav: is a file, and OUT/")
    result = cli(*command, "--dry-run", three / "b.flac", f"{three}/other/")
    suffix = ".wav" if command[0] == "corrupt" else ".flac"
    assert result.stdout == f"{three}/b.flac -> {three}/other/b{suffix}\n"
    assert not (three / "other").exists()


def test_several_inputs_go_into_a_folder_named_like_a_file(three: Path) -> None:
    result = cli("enhance", "--mix", 0, three / "a.wav", three / "b.flac", f"{three}/new.wav/")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (three / "new.wav").iterdir()) == ["a.wav", "b.flac"]


def test_several_inputs_of_phones_become_wav(three: Path) -> None:
    (three / "c.m4a").write_bytes((three / "a.wav").read_bytes())  # its content decides
    result = cli("enhance", "--mix", 0, three / "a.wav", three / "c.m4a", three / "out")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (three / "out").iterdir()) == ["a.wav", "c.wav"]


@pytest.mark.parametrize(
    "words",
    [("enhance", "", "b.wav"), ("enhance", "a.wav", ""), ("corrupt", "", "b.wav"),
     ("corrupt", "a.wav", ""), ("score", "a.wav", ""), ("export", "live", "")],
)  # fmt: skip
def test_an_empty_name_is_refused(words: tuple[str, ...]) -> None:
    one_error_line(cli(*words), "expected a file or a folder, found an empty name", status=2)


@pytest.mark.parametrize(
    ("target", "words"),
    [("b.aac", "b.aac: unknown suffix: name it b.wav"), ("d.wav", "d.wav: exists")],
)
def test_a_dry_run_refuses_what_the_real_one_refuses(three: Path, target: str, words: str) -> None:
    write(three / "d.wav", speech_like(0, 0.1))
    for dry in (("--dry-run",), ()):
        result = cli("enhance", *dry, "--mix", 0, three / "a.wav", three / target)
        one_error_line(result, words)
        assert result.stdout == ""


def test_a_dry_run_names_the_inputs_of_a_list_that_are_not_there(three: Path) -> None:
    (three / "empty.wav").touch()
    (three / "wav.scp").write_text(f"a {three}/a.wav\nb {three}/no.wav\nc {three}/empty.wav\n")
    for command in (("enhance", "--mix", 0), ("corrupt",)):
        result = cli(*command, "--dry-run", three / "wav.scp", three / "out")
        assert result.returncode == 1
        assert result.stdout == f"{three}/a.wav -> {three}/out/a.wav\n"
        errors = result.stderr.splitlines()
        assert errors == [
            f"error: {three}/no.wav: no such file: check the path",
            f"error: {three}/empty.wav: the file is empty (0 bytes): replace or remove it",
        ]
        real = cli(*command, three / "wav.scp", three / "out").stderr
        assert all(line in real for line in errors)
        (three / "out/a.wav").unlink()


def test_what_a_folder_cannot_give_is_named(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links to nothing, pipes, and folders that may not be opened, which root may."""
    more, scandir = three / "more", os.scandir
    (more / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    os.mkfifo(more / "pipe.wav")
    (more / "locked").mkdir()

    def opened(path: Any) -> Any:
        if str(path) == str(locked):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", opened)
    locked = more / "locked"
    result = cli("enhance", "--mix", 0, more, three / "out")
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "left out" in line]
    assert line == (
        f"note: {more}: left out, since they are not named like audio files: 1 (notes.txt); since"
        " they cannot be read: 3 (gone.wav, locked, pipe.wav)"
    )
    (more / "c.wav").unlink()
    result = cli("enhance", more, three / "empty")
    one_error_line(result, "holds no audio files", "cannot be read: 3 (gone.wav, locked, pipe.wav)")
    locked = more
    one_error_line(cli("enhance", more, three / "no"), f"{more}: Permission denied")


def test_a_limit_in_db_keeps_some_of_the_input(three: Path, model_dir: Path) -> None:
    wave = audio.read_mono(three / "a.wav")[0]
    denoiser = gan_denoise.load(model_dir)
    enhanced, share = denoiser(wave, 16000), 10 ** (-12 / 20)
    limited = denoiser(wave, 16000, mix=mix_for_limit(12))
    np.testing.assert_allclose(limited, share * wave + (1 - share) * enhanced, atol=1e-6)
    options = ("--model", model_dir, "--atten-lim", 12)
    assert cli("enhance", *options, three / "a.wav", three / "d.wav").returncode == 0
    np.testing.assert_allclose(audio.read_mono(three / "d.wav")[0], limited, atol=1 / 32768)
    assert cli("enhance", "--mix", 1, *options, three / "a.wav", three / "e.wav").returncode == 2
    assert cli("enhance", "--atten-lim", -3, three / "a.wav", three / "e.wav").returncode == 2


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_stream_keeps_some_of_the_input_in_step(model_dir: Path, rate: int) -> None:
    denoiser, wave = Denoiser.load(model_dir), speech_like(3, 0.5, rate)[:, None]

    def streamed(mix: float) -> np.ndarray:
        stream = denoiser.stream(rate, mix=mix)
        pieces = [stream.push(wave[start : start + 777]) for start in range(0, len(wave), 777)]
        return np.concatenate([*pieces, stream.flush()])

    np.testing.assert_allclose(streamed(0.0), wave, atol=1e-7)
    expected = 0.75 * streamed(1.0) + 0.25 * wave
    np.testing.assert_allclose(streamed(0.75), expected, atol=1e-6)


def test_one_file_has_all_threads_whatever_the_jobs(
    three: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    options = ("--jobs", 4, "--model", model_dir)
    assert cli("enhance", *options, three / "more", three / "out").returncode == 0
    assert threads == []


def test_a_second_audio_track_is_named(three: Path) -> None:
    wave = (speech_like(0, 0.5) * 32767).astype(np.int16)
    with av.open(str(three / "two.mka"), "w") as file:
        tracks = [file.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(2)]
        for track in tracks:
            frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            file.mux([*track.encode(frame), *track.encode(None)])
    result = cli("enhance", "--mix", 0, three / "two.mka", three / "d.wav")
    assert result.returncode == 0, result.stderr
    assert "d.wav: the input holds 2 audio tracks, of which this is the first" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_words(shell: str) -> None:
    pytest.importorskip("shtab")
    result = cli("--print-completion", shell)
    assert result.returncode == 0 and "--atten-lim" in result.stdout
    if shell == "bash":
        assert run("bash", "-n", "-c", result.stdout).returncode == 0


def test_completion_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    one_error_line(cli("--print-completion", "bash"), "pip install shtab")


def test_every_command_has_help_in_whole_words() -> None:
    (commands,) = (one.choices for one in parser()._actions if one.dest == "command")
    names = {"corrupt", "enhance", "explain", "export", "score", "serve", "stream"}
    assert isinstance(commands, dict) and set(commands) == names
    for name in names:
        assert commands[name].description.endswith("."), name
        for option in commands[name]._actions:
            assert option.help and " " in option.help, f"{name} {option.dest}"
            shown = getattr(option, "default", None)
            if isinstance(shown, int | float) and not isinstance(shown, bool):
                assert f"(default {shown:g})" in option.help, f"{name} {option.dest}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["enhance", "--stren", "1", "a", "b"],
            'unknown option --stren (did you mean "--strength"?)',
        ),
        (["enhance", "--mix", "2", "a", "b"], "--mix: expected 0 to 1, found 2"),
        (["enhance"], "required: IN, OUT (gan-denoise enhance --help lists the options)"),
        (["export", "a", "b", "c"], "unexpected argument 'c' (gan-denoise export --help"),
        (["enhanc", "a", "b"], "invalid choice: 'enhanc' (choose from "),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], expected: str) -> None:
    result = cli(*words)
    one_error_line(result, expected, status=2)
    assert len(result.stderr.splitlines()) == 1 and not result.stdout


def test_what_an_installed_package_cannot_compare_is_no_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gan_denoise.provenance.origin.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("boxed", "live", "files"):
        result = cli("explain", name)
        assert "✓ weights" in result.stdout and "✗" not in result.stdout, result.stdout
