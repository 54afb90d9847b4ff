"""gan-denoise corrupt and stage 1: the fixed procedure's noise in files, and its audit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from conftest import CONF, ROOT, cli, local, one_error_line, run, speech_like, write
from gan_denoise import audio
from gan_denoise.config import dump_yaml
from gan_denoise.corruption import noise
from gan_denoise.scoring import read_csv
from gan_denoise.system.ids import utt_id_below

STFT = {"n_fft": 1024, "hop_length": 256, "window": "hann"}


def test_any_number_of_jobs_and_the_command_line_give_the_same_samples(
    plain_corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    """Stage 1 with one job, `gan-denoise corrupt` with two, and a direct call: equal files."""
    result = run("gan-denoise", "corrupt", "--jobs", 2, plain_corpus, tmp_path / "out")
    assert result.returncode == 0 and "20 of 20 files done" in result.stderr, result.stderr
    checked = 0
    for split in ("train", "dev", "test"):
        for path in sorted((prepared / split / "noisy").glob("*.wav")):
            speaker, stem = path.stem.split("_")
            assert (tmp_path / "out" / speaker / f"{stem}.wav").read_bytes() == path.read_bytes()
            checked += 1
    assert checked == 20
    clean, rate = audio.read_mono(plain_corpus / "ann/rec0.wav", dtype="float64")
    direct = audio.to_pcm16(noise.default().apply(clean, "ann_rec0", rate))
    stored, _ = audio.read(tmp_path / "out/ann/rec0.wav")
    np.testing.assert_array_equal(audio.to_pcm16(stored[:, 0]), direct)


def test_the_noise_does_not_depend_on_how_a_recording_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/rec.wav", speech_like(0))
    write(tmp_path / "in/ann/rec.wav", speech_like(0))
    (tmp_path / "other").symlink_to(tmp_path / "in")
    for source, target in (("in/rec.wav", "file.wav"), ("in", "folder"), ("other", "renamed")):
        assert cli("corrupt", tmp_path / source, tmp_path / target).returncode == 0
    monkeypatch.chdir(tmp_path / "in")
    assert cli("corrupt", ".", "../here").returncode == 0
    loose = [
        (tmp_path / name).read_bytes()
        for name in ("file.wav", "folder/rec.wav", "renamed/rec.wav", "here/rec.wav")
    ]
    assert loose == [loose[0]] * 4
    below = [
        (tmp_path / name / "ann/rec.wav").read_bytes() for name in ("folder", "renamed", "here")
    ]
    assert below == [below[0]] * 3 != loose[:3]
    clean, rate = audio.read_mono(tmp_path / "in/rec.wav", dtype="float64")
    for path, utt_id in (("file.wav", "rec"), ("folder/ann/rec.wav", "ann_rec")):
        expected = audio.to_pcm16(noise.default().apply(clean, utt_id, rate))
        np.testing.assert_array_equal(
            audio.to_pcm16(audio.read(tmp_path / path)[0][:, 0]), expected
        )


def test_the_committed_results_keep_their_utt_ids_and_noise() -> None:
    """Recordings have the same utt_id as before, and for it the same noise.

    The corpora of these results have a folder per speaker.
    """
    for row in read_csv(ROOT / "egs/vctk/results/coffee/noisy.csv"):
        speaker, utt_id = row["spk_id"], row["utt_id"]
        for layout in (
            f"speech/{speaker}/{utt_id}.flac",
            f"speech/{speaker}/{utt_id.removeprefix(f'{speaker}_')}.flac",
        ):
            assert utt_id_below(Path(layout), Path("speech")) == utt_id
    assert utt_id_below(Path("speech/s12/day1/s12_001_mic1.flac"), Path("speech")) == "s12_001"
    noisy = audio.to_pcm16(noise.default().apply(speech_like(0), "s12_001", 16000))
    assert noisy is not None
    assert hashlib.sha256(noisy.astype("<i2").tobytes()).hexdigest()[:16] == "96d1e3fa9a3c147b"


def test_lists_and_links(tmp_path: Path) -> None:
    write(tmp_path / "in/a.wav", speech_like(0))
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/in").symlink_to(tmp_path / "in")
    result = cli("corrupt", tmp_path / "linked", tmp_path / "out")
    assert result.returncode == 0 and (tmp_path / "out/in/a.wav").is_file(), result.stderr
    scp = tmp_path / "in.scp"
    scp.write_text(f"utt {tmp_path / 'in/a.wav'}\n")
    assert cli("corrupt", scp, tmp_path / "new.scp").returncode == 0
    assert (tmp_path / "new.scp").read_text() == f"utt {tmp_path / 'new/utt.wav'}\n"
    one_error_line(cli("corrupt", "--overwrite", scp, scp), "in.scp: exists")
    one_error_line(cli("corrupt", scp, tmp_path / "x.wav"), "has to be a folder or an scp file")
    one_error_line(
        cli("corrupt", tmp_path / "in", tmp_path / "in/out"), "lies inside the input folder"
    )
    scp.write_text(f"../evil {tmp_path / 'in/a.wav'}\n")
    one_error_line(cli("corrupt", scp, tmp_path / "safe"), "may not be a path")


def test_noisy_beyond_full_scale_is_stored_as_float(tmp_path: Path) -> None:
    write(tmp_path / "hot.wav", speech_like(0) * 6, subtype="FLOAT")
    result = cli("corrupt", tmp_path / "hot.wav", tmp_path / "noisy.wav")
    assert result.returncode == 0, result.stderr
    noisy, rate = audio.read_mono(tmp_path / "noisy.wav")
    assert np.abs(noisy).max() > 1.0
    clean, _ = audio.read_mono(tmp_path / "hot.wav", dtype="float64")
    np.testing.assert_allclose(noisy, noise.default().apply(clean, "hot", rate), atol=1e-6)


def test_the_audit_warns_where_speech_is_wiped_out(prepared: Path, tmp_path: Path) -> None:
    procedure_path = tmp_path / "wipe.yaml"
    procedure_path.write_text(
        dump_yaml(
            {"seed": 0, "stft": STFT, "manipulations": [{"add": {"share": 1.0, "level": 30.0}}]}
        )
    )
    data = tmp_path / "test"
    data.mkdir()
    for name in ("wav.scp", "utt2spk", "spk2utt", "utt2dur"):
        (data / name).write_text((prepared / "test" / name).read_text())
    result = local("corrupt", "--noise", procedure_path, data)
    assert result.returncode == 0, result.stderr
    assert "WARNING: STOI is under 0.6" in result.stderr
    assert (data / "audit.csv").is_file()
    result = local("corrupt", "--noise", CONF / "noise.yaml", data)
    one_error_line(result, "was corrupted by another procedure", "--noise")
