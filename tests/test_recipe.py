"""run.sh as a newcomer calls it: the whole recipe on a small mini corpus, repeats, refusals; the
download.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from conftest import CONF, ROOT, local, one_error_line, run, speech_like, write
from gan_denoise.scoring import read_csv

RUN = ROOT / "egs/vctk/run.sh"
REPORT = ROOT / "recipes/report.py"
TINY = (
    "steps=6 warm_start_steps=3 discriminator_steps=2 batch_size=2 segment_s=0.5 workers=0"
    " validate_utterances=2 generator.width=8 generator.blocks=1"
)


def recipe(*options, **others):
    return run("bash", RUN, *options, **others)


@pytest.fixture(scope="module")
def small_mini(tmp_path_factory):
    """A corpus made as stage 0 makes it, with 4 voices and 5 sentences."""
    folder = tmp_path_factory.mktemp("recipe")
    result = local("make_mini", "--voices", 4, "--sentences", 5, folder / "mini")
    assert result.returncode == 0, result.stderr
    return folder


def test_from_a_corpus_to_a_table(small_mini, prepared):
    options = [
        "--corpus",
        "mini/",
        "--data",
        "data",
        "--exp=exp",
        "--train-opts",
        TINY,
        "--nj",
        "2",
    ]
    options += ["--conditions", "clean mixed"]
    result = recipe("--stage", 0, *options, cwd=small_mini)  # paths are relative to the caller
    assert result.returncode == 0, result.stderr
    exp, data = small_mini / "exp", small_mini / "data"
    results = (exp / "RESULTS.md").read_text()
    assert "bash egs/vctk/run.sh --stage 0 --corpus mini/ --data data" in results
    rows = [line.split("|")[1].strip() for line in results.splitlines() if line.startswith("| ")]
    assert rows == [
        *(
            "system",
            "noisy",
            "oracle mask",
            "oracle magnitude",
            "l1",
            "gan",
            "difference",
            "gan - l1",
        ),
        *("PESQ-WB / SI-SDR dB", "noisy", "oracle mask", "oracle magnitude", "l1", "gan"),
        *("difference", "gan - l1", "gan - l1"),  # on clean and on mixed
        *("PESQ-WB gain", "l1", "gan"),
    ]
    assert results.split("bash egs")[1].count("2 of 2") == 5
    clean = read_csv(exp / "noisy/conditions/clean/scores.csv")
    # Nothing is damaged there
    assert all(row["si_sdr"] == 100.0 and row["pesq_wb"] > 4.6 for row in clean)
    assert len(read_csv(exp / "gan/conditions/mixed/scores.csv")) == 2
    # The tables are what a newcomer reads
    assert "| l1" in result.stdout and "| gan - l1" in result.stdout
    scores = {name: read_csv(exp / name / "scores.csv") for name in ("noisy", "oracle_mag", "l1")}
    assert (
        scores["l1"][0]["system"] == "l1"
        and scores["l1"][0]["seed"] == "0"
        and scores["noisy"][0]["seed"] == ""
    )
    assert len({row["fingerprint"] for rows in scores.values() for row in rows}) == 1
    for noisy, oracle in zip(scores["noisy"], scores["oracle_mag"], strict=True):
        assert (
            oracle["pesq_wb"] > noisy["pesq_wb"] + 1.0 and oracle["si_sdr"] > noisy["si_sdr"] + 5.0
        )
    page = (exp / "report.html").read_text()
    assert page.count("class=room ") == 2 and page.count("data-system=") == 2 * 4
    assert "http://" not in page and "https://" not in page  # opens offline
    assert any((exp / "l1/tensorboard").iterdir())

    kept = {
        path: path.stat().st_mtime_ns
        for path in [*data.rglob("*.wav"), *exp.rglob("scores.csv"), *exp.rglob("enhanced.scp")]
    }
    again = recipe("--stage", 0, "--stop-stage", 4, *options, cwd=small_mini)
    assert again.returncode == 0, again.stderr
    # A finished stage does nothing again
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    enhanced = sorted((exp / "l1/enhanced").iterdir())
    kept = enhanced[0].read_bytes()
    enhanced[0].write_bytes(enhanced[1].read_bytes())
    os.utime(exp / "l1/scores.csv", (4e9, 4e9))  # dated in the future: contents decide
    one_error_line(
        run("python", REPORT, "--data", data, exp),
        "l1/scores.csv: is not of what lies in",
        "run stages 3 and 4 again",
    )
    model = exp / "l1/model"
    assert local("enhance", model, data / "test", exp / "l1").returncode == 0
    assert enhanced[0].read_bytes() == kept  # what was spoiled is made anew
    command = yaml.safe_load((exp / "about.yaml").read_text())["command"]
    (exp / "RESULTS.md").unlink()
    again = run("python", REPORT, "--command", command, "--data", data, exp)
    assert again.returncode == 0, again.stderr
    assert (exp / "RESULTS.md").read_text() == results  # stage 5 repeated says the same
    assert yaml.safe_load((data / "corpus.yaml").read_text())["mini"] is True

    other = f"{TINY} optimizer.lr=1e-2"  # or other figures would stand below this command
    result = recipe("--stage", 3, *options, "--train-opts", other, cwd=small_mini)
    one_error_line(result, "exp/l1: was started with other settings", "optimizer.lr")
    for stage in ("2", "3", "5"):  # an exp folder belongs to one data folder
        said = "with other settings" if stage == "2" else "was made from other data"
        result = recipe(
            "--stage",
            stage,
            "--stop-stage",
            stage,
            "--data",
            prepared,
            "--exp",
            exp,
            cwd=small_mini,
        )
        one_error_line(result, said, "--exp")
    for changed, words in {
        ("--sample-rate", "48000"): ["--sample-rate 16000, not 48000"],
        ("--subset", "2"): ["--subset"],
        ("--corpus", str(small_mini)): ["--corpus"],
        ("--noise", str(CONF / "noise_heavy.yaml")): ["corrupted by another procedure", "--noise"],
    }.items():
        for stage in ("0", "2"):
            result = recipe("--stage", stage, "--stop-stage", 2, *options, *changed, cwd=small_mini)
            one_error_line(result, *words, "--data")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--conditions", "loud"], ['unknown condition "loud"', "clean add heavy"]),
        (["--stages", "0"], ["unknown option --stages (did you mean --stage?)"]),
        (["--stage"], ["--stage needs a value"]),
        (["--stage", "two"], ["--stage: expected a whole number"]),
        (["--stage", "9"], ["--stage 9", "from -1 to 5"]),
        (["--stage", "3", "--stop-stage", "2"], ["nothing to do"]),
        (["--seeds", "0 00"], ['--seeds: expected whole numbers, found "00"']),
        (["--seeds", "1 0 1"], ["--seeds: 1 is listed twice"]),
        (["--nj", "0"], ["--nj: expected a whole number from 1"]),
        (["stage"], ['unexpected argument "stage"']),
        (["--experiments", "l2"], ['unknown experiment "l2"', "l1"]),
        (["--train-opts", "seed=5"], ['--seeds "5"']),
        (["--split", "nowhere.yaml"], ["--split", "nowhere.yaml: no such file"]),
        (["--corpus", "nowhere"], ["no such corpus folder"]),
        (["--stage=3"], ["run stage 0 first"]),
        (["--stage=-1", "--stop-stage=-1"], ["--corpus DIR"]),
    ],
)
def test_wrong_options_are_one_line(options, words, tmp_path):
    one_error_line(recipe(*options, "--data", "data", "--exp", "exp", cwd=tmp_path), *words)


def test_a_moved_repository_mends_its_environment_without_a_network(tmp_path):
    """A repository in small, whose environment borrows the packages of this one, made at one place
    and used at another.
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


def test_two_first_commands_make_one_environment(tmp_path):
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
        assert "Waiting for another command" in waiting.stderr.readline()
        os.killpg(waiting.pid, signal.SIGINT)  # Ctrl-C, which does not go on without the lock
        assert "Making" not in waiting.communicate(timeout=60)[1] and waiting.returncode != 0


def test_a_stage_that_fails_ends_the_run(prepared, tmp_path):
    """Also the fourth, of which one exit status means that it went on."""
    asked = ["--stage", 4, "--data", prepared, "--exp", tmp_path, "--experiments", "l1"]
    result = recipe(*asked, "--conditions", " ")
    one_error_line(result, "oracle_mag/enhanced.scp: is missing: run stage 3 first")
    assert "stage 5" not in result.stdout + result.stderr


def test_bad_noise_is_said_before_the_work(tmp_path):
    (tmp_path / "noise.yaml").write_text("seed: 0\nstft: {n_fft: 1024}\nmanipulations: []\n")
    safe = {"PYTHONSAFEPATH": "1"}  # programs find their own modules all the same
    options = ["--noise", "noise.yaml", "--data", "data", "--exp", "exp"]
    result = recipe(*options, cwd=tmp_path, env=safe)
    one_error_line(result, "noise.yaml: stft: window")
    assert {path.name for path in tmp_path.iterdir()} == {"noise.yaml"}


def test_a_run_that_was_started_with_wrong_data_does_not_claim_its_exp(prepared, tmp_path):
    """Only a finished model does; that of other data is named."""
    check = "check_exp", prepared, tmp_path / "exp"
    (tmp_path / "exp/l1").mkdir(parents=True)
    (tmp_path / "exp/l1/checkpoint.pt").write_text("of a run that was stopped at once")
    assert local(*check).returncode == 0
    (tmp_path / "exp/l1/model").mkdir()
    (tmp_path / "exp/l1/model/config.json").write_text(
        '{"data": {"train": "0", "dev": "0"}, "noise": "0"}'
    )
    one_error_line(local(*check), "exp/l1: was made from other data", "--data", "--exp")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("corrupt", ["--jobs", "0", "x"]),
        ("oracle", ["--jobs", "-1", "x", "y", "z"]),
        ("prepare", ["--sample-rate", "0", "x"]),
        ("prepare", ["--subset", "-1", "x"]),
    ],
)
def test_counts_are_from_one(script, options):
    result = local(script, *options)
    assert result.returncode == 2 and "expected a whole number from 1" in result.stderr


def test_help_names_every_option(tmp_path):
    result = recipe("--help")
    assert result.returncode == 0
    for option in (
        "--stage",
        "--corpus",
        "--noise",
        "--split",
        "--subset",
        "--experiments",
        "--seeds",
        "--ngpu",
        "--nj",
        "--cmd",
        "--slurm",
    ):
        assert option in result.stdout


def test_however_the_script_is_called(prepared, tmp_path):
    (tmp_path / "linked.sh").symlink_to(RUN)
    one_error_line(
        run("bash", tmp_path / "linked.sh", "--experiments", "l2"),
        'unknown experiment "l2"',
        "l1_mrstft",
    )
    one_error_line(run("sh", RUN, "--stage", 5), "this is a script for bash")
    # A blank within a setting, two between
    settings = "gain_db=[-12.0, 6.0]  optimizer.betas=[0.8, 2.0]"
    stage = ["--stage", 2, "--stop-stage", 2, "--experiments", "l1", "--conditions", ""]
    result = recipe(*stage, "--data", prepared, "--exp", tmp_path / "exp", "--train-opts", settings)
    one_error_line(result, "betas", "2.0")


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/dev/full").exists(), reason="root may write anywhere"
)
def test_unwritable_output_is_one_line(plain_corpus, tmp_path):
    (tmp_path / "file").write_text("a file where a folder is wanted")
    result = recipe(
        "--corpus",
        plain_corpus,
        "--data",
        tmp_path / "file/data",
        "--exp",
        tmp_path / "exp",
        "--stop-stage",
        0,
    )
    one_error_line(result, str(tmp_path / "file"))


@pytest.fixture
def server(tmp_path):
    """A small VCTK archive on loopback, by a server that can go on in the middle of a file, and can
    break off once.
    """
    corpus = tmp_path / "made"
    for speaker in ("p225", "p226", "p232"):
        for number in (1, 30):
            wave = speech_like(number, 0.5, 48000)
            write(
                corpus / f"wav48_silence_trimmed/{speaker}/{speaker}_{number:03d}_mic1.flac",
                wave,
                48000,
            )
    (tmp_path / "www").mkdir()
    archive = tmp_path / "www/VCTK-Corpus-0.92.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(corpus.rglob("*")):
            file.write(path, path.relative_to(corpus))

    class Handler(http.server.SimpleHTTPRequestHandler):
        break_off = True
        ranges: list = []

        def do_GET(self):
            content = archive.read_bytes()
            asked = self.headers.get("Range")
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if Handler.break_off:
                Handler.break_off = False
                self.wfile.write(content[start : len(content) // 2])
                return
            self.wfile.write(content[start:])

        def log_message(self, *arguments):
            pass

    served = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    )
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/{archive.name}", archive, Handler
    served.shutdown()


def test_a_broken_download_goes_on_and_a_wrong_checksum_is_refused(server, tmp_path):
    url, archive, handler = server
    good = hashlib.sha256(archive.read_bytes()).hexdigest()

    def download(checksum: str, folder: str):
        return local("download_vctk", "--url", url, "--checksum", checksum, tmp_path / folder)

    one_error_line(download(good, "vctk"), "closed early", "goes on where it stopped")
    result = download(good, "vctk")
    assert result.returncode == 0, result.stderr
    half = archive.stat().st_size // 2
    assert handler.ranges == [None, f"bytes={half}-"]
    assert (tmp_path / "vctk/wav48_silence_trimmed/p225/p225_030_mic1.flac").is_file()
    assert download(good, "vctk").returncode == 0 and len(handler.ranges) == 2  # there already
    one_error_line(download("0" * 32, "wrong"), "wrong checksum", "download it again")
    assert [path.name for path in (tmp_path / "wrong").iterdir()] == [".lock"]
    (tmp_path / "hand").mkdir()
    whole = archive.read_bytes()
    place = whole.index(b"p226_030_mic1") + 200
    (tmp_path / "hand" / archive.name).write_bytes(whole[:place] + b"damaged" + whole[place + 7 :])
    # Put there by hand
    one_error_line(download(good, "hand"), "hand/VCTK-Corpus-0.92.zip: wrong checksum", "remove it")
    damaged = hashlib.sha256((tmp_path / "hand" / archive.name).read_bytes()).hexdigest()
    one_error_line(download(damaged, "hand"), "is no whole zip archive", "download it again")
    assert {path.name for path in (tmp_path / "hand").iterdir()} == {".lock", archive.name}


def test_the_address_is_torchaudios():
    import download_vctk
    from gan_denoise.audio import torchaudio

    torchaudio()
    from torchaudio.datasets import vctk

    assert download_vctk.address() == (vctk.URL, vctk._CHECKSUMS[vctk.URL])
    assert vctk.URL.endswith("VCTK-Corpus-0.92.zip") and len(vctk._CHECKSUMS[vctk.URL]) in (32, 64)
