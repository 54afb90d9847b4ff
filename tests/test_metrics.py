"""Metrics: known values, reasons instead of repairs, workers that may die."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz

import gan_denoise
from conftest import cli, one_error_line, run, speech_like, write
from gan_denoise import metrics, quality, scoring, speakers, workers
from gan_denoise.errors import InputError
from gan_denoise.metrics import Signals
from gan_denoise.scoring import Pair


def signals(enhanced, clean=None, noisy=None) -> Signals:
    clean = speech_like(0, 2.0) if clean is None else clean
    return Signals(clean, enhanced, noisy, 16000)


def test_si_sdr_knows_its_values():
    time_s = np.arange(16000) / 16000
    sine, cosine = np.sin(2 * np.pi * 100 * time_s), np.cos(2 * np.pi * 100 * time_s)
    assert metrics.si_sdr(signals(sine + 0.1 * cosine, sine)) == pytest.approx(20.0, abs=1e-6)
    assert metrics.si_sdr(signals(5.0 * (sine + 0.1 * cosine) + 0.3, sine)) == pytest.approx(
        20.0, abs=1e-6
    )
    assert metrics.si_sdr(signals(sine, sine)) == 100.0
    assert metrics.si_sdr(signals(cosine, sine)) == -100.0


def test_wsdr_knows_its_values():
    clean = speech_like(0)
    noise = np.random.default_rng(0).standard_normal(len(clean)) / 10
    noisy = clean + noise
    assert metrics.wsdr(signals(clean, clean, noisy)) == pytest.approx(-1.0)
    share = (clean @ clean) / (clean @ clean + noise @ noise)
    cosine = clean @ noisy / np.sqrt((clean @ clean) * (noisy @ noisy))
    assert metrics.wsdr(signals(noisy, clean, noisy)) == pytest.approx(-share * cosine)
    with pytest.raises(metrics.Unscorable, match="needs the noisy signal"):
        metrics.wsdr(signals(clean, clean))


def test_pesq_takes_its_arguments_in_the_right_order():
    import pesq

    clean = speech_like(0, 2.0)
    noisy = clean + np.random.default_rng(0).standard_normal(len(clean)) / 50
    score = metrics.pesq_wb(signals(noisy, clean))
    assert score == pytest.approx(
        pesq.pesq(16000, clean.astype(np.float32), noisy.astype(np.float32), "wb")
    )
    assert metrics.pesq_wb(signals(clean, clean)) == pytest.approx(4.64, abs=0.01)
    assert 1.0 < score < 3.0


def noisy_pair(rate: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    clean = speech_like(0, 2.0, rate) + 1e-3 * draw.standard_normal(2 * rate)
    return clean, clean + 0.02 * draw.standard_normal(2 * rate)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (16000, (2.5558044268, 0.3119320264, 17.7264669061)),
        (8000, (2.5661145247, 0.1415679304, 18.5490980675)),
    ],
)
def test_the_composites_parts_agree_with_another_implementation(rate, expected):
    """segSNR, LLR (not limited) and WSS by the package pysepm-evo 0.1.1 on the same pair."""
    pair = (*noisy_pair(rate), rate)
    found = (
        quality.segmental_snr(*pair),
        quality.log_likelihood_ratio(*pair),
        quality.weighted_spectral_slope(*pair),
    )
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_composite_is_hu_and_loizous_regression():
    clean, enhanced = noisy_pair(16000)
    given = Signals(clean, enhanced, None, 16000)
    pesq, (snr, llr, wss) = metrics.pesq_wb(given), (2.5558044268, 0.3119320264, 17.7264669061)
    found = [metrics.METRICS[name].function(given) for name in ("csig", "cbak", "covl")]
    assert found[0] == pytest.approx(3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss, abs=1e-5)
    assert found[1] == pytest.approx(1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * snr, abs=1e-5)
    assert found[2] == pytest.approx(1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss, abs=1e-5)
    best = Signals(clean, clean, None, 16000)
    assert [metrics.METRICS[name].function(best) for name in ("csig", "cbak", "covl")] == [
        5.0,
        5.0,
        5.0,
    ]


def test_sdr_is_the_projection_onto_all_filters_of_512_taps():
    """BSSEval's definition solved anew, by Levinson's recursion for the Toeplitz system of the
    normal equations.
    """
    clean, enhanced = noisy_pair(16000)
    spectra = [np.fft.rfft(wave, 2**16) for wave in (clean, enhanced)]
    lags = np.fft.irfft(np.abs(spectra[0]) ** 2)[:512]
    cross = np.fft.irfft(spectra[0].conj() * spectra[1])[:512]
    explained = solve_toeplitz(lags, cross) @ cross
    expected = 10 * np.log10(explained / (enhanced @ enhanced - explained))
    assert metrics.sdr(signals(enhanced, clean)) == pytest.approx(expected, abs=1e-6)
    assert metrics.sdr(signals(0.3 * clean, clean)) == 100.0
    with pytest.raises(metrics.Unscorable, match="shorter than twice"):
        metrics.sdr(signals(clean[:1000], clean[:1000]))


def test_log_spectral_distance_knows_its_values():
    clean, _ = noisy_pair(16000)
    assert quality.log_spectral_distance(clean, clean, 16000) == 0.0
    assert quality.log_spectral_distance(clean, 10.0 * clean, 16000) == pytest.approx(
        20.0, abs=0.01
    )  # all but silent edges
    assert quality.log_spectral_distance(clean, 0.0 * clean, 16000) < 100.0


def test_speaker_similarity_hears_the_envelope_and_not_the_level():
    clean, _ = noisy_pair(16000)
    embedding = speakers.embedding(clean, 16000)
    assert embedding.shape == (40,)
    assert speakers.similarity(embedding, speakers.embedding(0.01 * clean, 16000)) == pytest.approx(
        1.0, abs=1e-6
    )
    duller = np.convolve(clean, np.hanning(9) / 5, "same")
    assert metrics.speaker_similarity(signals(duller, clean)) < 0.95
    assert speakers.embedding(clean[:2000], 16000) is None


def test_narrow_band_pesq_is_the_packages():
    import pesq

    for rate in (16000, 8000):
        clean, enhanced = (wave.astype(np.float32) for wave in noisy_pair(rate))
        found = metrics.pesq_nb(Signals(clean, enhanced, None, rate))
        assert found == pytest.approx(pesq.pesq(rate, clean, enhanced, "nb"))
    with pytest.raises(metrics.Unscorable, match="WB-PESQ needs 16000 Hz, this is 8000 Hz"):
        metrics.pesq_wb(Signals(clean, enhanced, None, 8000))


def test_what_cannot_be_scored_is_empty_with_a_reason(tmp_path):
    clean, silence = speech_like(0, 2.0), np.zeros(32000)
    noisy = clean + np.random.default_rng(1).standard_normal(32000) / 100
    cases = {
        "good": (clean, noisy),
        "silent_clean": (silence, noisy),
        "silent_enhanced": (clean, silence),
        "short": (clean[8000:11000], noisy[8000:11000]),
        "cut": (clean, noisy[:-1]),
        "nan": (clean, np.where(np.arange(32000) == 7, np.nan, noisy)),
    }
    pairs = []
    for utt_id, (reference, enhanced) in cases.items():
        files = [
            write(tmp_path / f"{utt_id}_{i}.wav", w, subtype="FLOAT")
            for i, w in enumerate((reference, enhanced))
        ]
        pairs.append(
            Pair(
                utt_id,
                *files,
                write(tmp_path / f"{utt_id}_2.wav", noisy[: len(reference)], subtype="FLOAT"),
            )
        )
    good = pairs[0]
    pairs += [Pair("no_clean", None, good.enhanced), Pair("no_enhanced", good.clean, None)]
    burst = np.concatenate([speech_like(0, 0.6), np.zeros(8000)])
    many = write(tmp_path / "many.wav", np.tile(burst, 64))
    rows = list(scoring.score(pairs, jobs=2))
    assert [row["utt_id"] for row in rows] == [*cases, "no_clean", "no_enhanced"]
    assert rows[:6] == list(scoring.score(pairs[:6], jobs=1))
    some = ("pesq_wb", "covl", "si_sdr")  # all of them take long for a minute
    long = scoring.score([Pair("many", many, many, many)], jobs=1, metrics=some)
    found = {row["utt_id"]: row for row in [*rows, *long]}
    assert all(found["good"][name] is not None for name in metrics.METRICS)
    for utt_id, reason in {
        "silent_clean": "the clean signal is silent",
        "silent_enhanced": "the enhanced signal is silent",
        "cut": "has 31999 samples",
        "nan": "NaN",
    }.items():
        for name in metrics.METRICS:
            assert found[utt_id][name] is None and reason in found[utt_id][f"{name}_reason"], (
                utt_id,
                name,
            )
    for utt_id, what in {"no_clean": "clean", "no_enhanced": "enhanced"}.items():
        assert {found[utt_id][f"{name}_reason"] for name in metrics.METRICS} == {
            f"has no {what} file"
        }
    assert (
        "more than 50 utterances" in found["many"]["pesq_wb_reason"]
        and found["many"]["covl"] is None
    )
    assert found["many"]["si_sdr"] is not None
    assert (
        "0.25 s" in found["short"]["pesq_wb_reason"]
        and "active speech" in found["short"]["stoi_reason"]
    )
    assert found["short"]["si_sdr"] is not None
    scoring.write_csv(tmp_path / "scores.csv", rows)
    again = {row["utt_id"]: row for row in scoring.read_csv(tmp_path / "scores.csv")}
    assert again["good"]["pesq_wb"] == pytest.approx(found["good"]["pesq_wb"], abs=1e-6)
    assert again["nan"]["pesq_wb"] is None and "NaN" in again["nan"]["pesq_wb_reason"]


def misbehave(item: str) -> str:
    if item == "die":
        os.kill(os.getpid(), 11)
    if item == "hang":
        time.sleep(60)
    if item == "refuse":
        raise InputError("no, thank you")
    return item.upper()


def test_workers_may_die_or_hang_alone():
    outcomes = list(
        workers.each(misbehave, ["a", "die", "b", "hang", "c", "refuse"], jobs=2, timeout_s=5)
    )
    found = {outcome.item: outcome for outcome in outcomes}
    assert {item: outcome.result for item, outcome in found.items() if outcome.reason is None} == {
        "a": "A",
        "b": "B",
        "c": "C",
    }
    assert "died" in found["die"].reason and "too long" in found["hang"].reason
    assert found["refuse"].reason == "no, thank you"


@pytest.mark.parametrize("imported", [1, 2])
def test_workers_import_the_program_only_where_they_need_it(imported, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from gan_denoise import workers\n"
        'print("imported", flush=True)\n'
        'if __name__ == "__main__":\n'
        f"    options = dict(always_isolated=True, imports_program={imported == 2})\n"
        '    (outcome,) = workers.each(str.upper, ["done"], jobs=1, **options)\n'
        "    print(outcome.value(), __file__)\n"
    )
    result = run("python", script)
    assert result.stdout == imported * "imported\n" + f"DONE {script}\n", result.stderr
    program = (
        "import __main__, multiprocessing.forkserver, gan_denoise.workers\n"
        "with gan_denoise.workers._program_hidden(): pass\n"
        "assert not hasattr(__main__, '__file__')\n"
        "assert not list(gan_denoise.workers.each(len, [], jobs=2))\n"  # for which none is started
        "assert multiprocessing.forkserver._forkserver._forkserver_pid is None"
    )
    assert run("python", "-c", program).returncode == 0


def test_workers_find_modules_where_the_program_does(tmp_path):
    """Whatever lies in the working directory."""
    program, other = tmp_path / "program", tmp_path / "other"
    program.mkdir()
    for name in ("tool", "gan_denoise"):
        (other / name).mkdir(parents=True)
    (program / "tool.py").write_text(
        "import gan_denoise\ndef where(item): return __file__, gan_denoise.__file__\n"
    )
    (program / "script.py").write_text(
        "import tool\nfrom gan_denoise import workers\n"
        'if __name__ == "__main__":\n'
        "    print(*next(workers.each(tool.where, [0], jobs=1, always_isolated=True)).value())\n"
    )
    result = run("python", program / "script.py", cwd=other)
    assert result.stdout == f"{program / 'tool.py'} {gan_denoise.__file__}\n", result.stderr


def test_score_from_the_command_line(tmp_path):
    for number in range(3):
        clean = speech_like(number, 1.5)
        write(tmp_path / f"clean/{number}.wav", clean)
        write(
            tmp_path / f"enhanced/{number}.wav",
            clean + np.random.default_rng(number).standard_normal(24000) / 100,
        )
    result = run(
        "gan-denoise",
        "score",
        "--csv",
        tmp_path / "s.csv",
        "--jobs",
        2,
        tmp_path / "clean",
        tmp_path / "enhanced",
    )
    assert result.returncode == 0, result.stderr
    assert "pesq_wb" in result.stdout and "3 of 3 utterances" in result.stdout
    assert [row["utt_id"] for row in scoring.read_csv(tmp_path / "s.csv")] == ["0", "1", "2"]
    csv = ("--csv", tmp_path / "s.csv", tmp_path / "clean", tmp_path / "enhanced")
    one_error_line(cli("score", *csv), "s.csv: exists", "--overwrite")
    clean = tmp_path / "clean/0.wav"
    result = cli("score", "--overwrite", "--csv", clean, clean, tmp_path / "enhanced/0.wav")
    one_error_line(result, "0.wav: is an input")
    (tmp_path / "enhanced/2.wav").unlink()
    result = cli("score", tmp_path / "clean", tmp_path / "enhanced", "--metrics", "si_sdr,stoi")
    one_error_line(result, "2: all metrics: has no enhanced file")
    assert "2 of 3 utterances" in result.stdout and "pesq" not in result.stdout
    swapped = cli(
        "score", "--metrics", "si_sdr", tmp_path / "enhanced/1.wav", tmp_path / "clean/1.wav"
    )
    assert swapped.returncode == 0 and "is CLEAN the first argument?" in swapped.stderr
    result = cli("score", tmp_path / "clean/0.wav", tmp_path / "enhanced/1.wav")
    assert result.returncode == 0, result.stderr
    write(tmp_path / "other/9.wav", speech_like(0))
    one_error_line(cli("score", tmp_path / "clean", tmp_path / "other"), "no utt_id in common")
    Path(tmp_path / "none").mkdir()
    one_error_line(cli("score", tmp_path / "clean", tmp_path / "none"), "holds no audio files")


def test_score_without_its_extra_is_one_line(tmp_path, monkeypatch):
    """Who enhances needs no C compiler, which pesq does."""
    wave = write(tmp_path / "a.wav", speech_like(0))
    monkeypatch.setitem(sys.modules, "pesq", None)
    one_error_line(cli("score", wave, wave), "(pesq, for pesq_wb)", 'pip install ".[score]"')


@pytest.mark.parametrize("length", [1, 100, 409, 410, 2000])
def test_a_recording_too_short_for_a_metric_has_a_reason_and_keeps_its_other_scores(
    length, tmp_path
):
    wave = 0.1 * np.sin(np.arange(length) + 1.0)
    for name in ("clean", "enhanced", "noisy"):
        write(
            tmp_path / f"{name}.wav",
            wave + (0.01 if name != "clean" else 0.0) * np.cos(3.0 * np.arange(length)),
        )
    pair = scoring.Pair("a", *(tmp_path / f"{name}.wav" for name in ("clean", "enhanced", "noisy")))
    (row,) = scoring.score([pair], jobs=1)
    assert row["wsdr"] is not None
    for name in ("stoi", "estoi", "pesq_wb"):
        assert row[name] is None and row[f"{name}_reason"], row
        assert "Traceback" not in row[f"{name}_reason"] and "\n" not in row[f"{name}_reason"]


def test_an_exception_of_a_metrics_library_is_the_reason_of_that_value(tmp_path, monkeypatch):
    def broken(signals):
        raise IndexError("in\nsome library")

    monkeypatch.setitem(scoring.ALL, "stoi", replace(scoring.ALL["stoi"], function=broken))
    write(tmp_path / "a.wav", speech_like(0))
    pair = scoring.Pair("a", tmp_path / "a.wav", tmp_path / "a.wav")
    values = scoring._score_group((pair, ("stoi", "si_sdr")))
    assert values == {"stoi": (None, "IndexError: in some library"), "si_sdr": (100.0, None)}


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


def test_work_goes_on_when_the_server_of_the_workers_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_PRELOADED", [])  # what the next server need not import
    paths = [tmp_path / str(number) for number in range(12)]
    for path in paths[1:]:
        path.write_text("")
    outcomes = list(workers.each(server_killed_at_first, paths, jobs=2))
    assert sorted(outcome.item for outcome in outcomes) == sorted(paths)
    assert [outcome.result for outcome in outcomes] == ["done"] * 12, outcomes


def test_an_item_whose_worker_was_killed_from_outside_is_tried_again(tmp_path):
    (outcome,) = workers.each(killed_at_first, [tmp_path / "here"], jobs=1, always_isolated=True)
    assert outcome.result == "done" and not outcome.reason
