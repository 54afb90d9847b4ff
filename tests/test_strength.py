"""How much a model is told to do: by hand, live, in a graph, over HTTP and in training."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT, cli, one_error_line, run, speech_like, write
from gan_denoise import audio, checkpoint, export, generators
from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.losses import Losses, weighted_sum
from gan_denoise.provenance.inputs import file_digest
from small_models import randomised, save

TOLD = {"name": "bands", "channels": 8, "bands": 6, "width": 8, "blocks": 1, "heads": 2}
TOLD |= {"loud": True, "high_pass_hz": 60.0, "entrance_hz": 70.0, "strength": True}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that streams and is told a strength, with random weights."""
    return save(tmp_path_factory.mktemp("told") / "model", TOLD, randomised(TOLD))


@pytest.fixture
def wave() -> np.ndarray:
    return speech_like(0, 2.0).astype(np.float32)


def test_names_are_numbers_and_the_middle_is_the_default(model_dir: Path, wave: np.ndarray) -> None:
    denoiser = Denoiser.load(model_dir)
    assert denoiser.takes_strength
    middle = denoiser(wave, 16000)
    same: tuple[Any, ...] = ("balanced", 0.5, np.float32(0.5))  # NumPy's is as good
    for strength in same:
        np.testing.assert_array_equal(denoiser(wave, 16000, strength=strength), middle)
    ends = [denoiser(wave, 16000, strength=name) for name in ("gentle", "strong")]
    for end, number in zip(ends, (0, 1), strict=True):
        np.testing.assert_array_equal(denoiser(wave, 16000, strength=number), end)
        assert np.abs(end - middle).max() > 1e-4


@pytest.mark.parametrize("strength", ["Strong", -0.1, 1.1, float("nan"), True, [0.5]])
def test_what_is_no_strength_is_refused(model_dir: Path, wave: np.ndarray, strength: Any) -> None:
    with pytest.raises(InputError, match="strength: expected gentle, balanced, strong, or 0 to 1"):
        Denoiser.load(model_dir)(wave, 16000, strength=strength)


def test_a_model_that_takes_none_says_so(wave: np.ndarray) -> None:
    plain = Denoiser(generators.build(TOLD | {"strength": False}, sample_rate=16000), 16000)
    assert not plain.takes_strength and plain.stream().strength is None
    with pytest.raises(InputError, match="strength: this model takes none"):
        plain(wave, 16000, strength="gentle")
    with pytest.raises(InputError, match="strength: this model takes none"):
        plain.stream().strength = 0.5


def test_a_stream_at_a_strength_is_the_file_at_it(model_dir: Path, wave: np.ndarray) -> None:
    denoiser = Denoiser.load(model_dir)
    live = denoiser.stream(strength="gentle")
    for _ in range(2):  # a flush does not forget it
        heard = np.concatenate([live.push(wave[:, None]), live.flush()])[:, 0]
        expected = denoiser(wave, 16000, strength=0.0)
        np.testing.assert_allclose(heard, expected, rtol=0.0, atol=1e-5)


def test_a_strength_that_changes_makes_no_click(model_dir: Path) -> None:
    """A tone turned up and down jumps no more from sample to sample than it does by itself."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(48000) / 16000).astype(np.float32)[:, None]
    denoiser = Denoiser.load(model_dir)

    def heard(strengths: Any) -> np.ndarray:
        live, pieces = denoiser.stream(), []
        for start, strength in zip(range(0, 48000, 4000), strengths, strict=True):
            live.strength = strength
            pieces.append(live.push(tone[start : start + 4000]))
        return np.concatenate([*pieces, live.flush()])[8000:, 0]

    def roughness(samples: Any) -> float:
        return np.abs(np.diff(samples, 2)).max()

    steady = max(roughness(heard([end] * 12)) for end in (0.0, 1.0))
    changing = heard([0.0, 1.0] * 6)
    assert np.abs(changing - heard([0.0] * 12)).max() > 1e-4  # it does change
    assert roughness(changing) < 1.2 * steady


def test_the_graphs_have_it_too(model_dir: Path, wave: np.ndarray, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    list(export.export(model_dir, tmp_path / "a.onnx"))  # which compares strengths with torch
    denoiser = Denoiser.load(model_dir)
    run = onnxruntime.InferenceSession(tmp_path / "a.onnx").run
    for inputs, strength in (({}, 0.5), ({"strength": np.ones((1, 1), np.float32)}, 1.0)):
        (enhanced,) = run(None, {"noisy": wave[None], **inputs})
        expected = denoiser(wave, 16000, strength=strength)
        np.testing.assert_allclose(enhanced[0], expected, rtol=0.0, atol=1e-4)


def test_what_works_window_by_window_has_a_graph_of_one(tmp_path: Path) -> None:
    options = {"name": "ahead", "channels": 4, "bands": 6, "width": 8, "blocks": 1, "heads": 2}
    options |= {"loud": True, "entrance_hz": 70.0, "strength": True, "shifts": 2}
    folder = save(tmp_path / "model", options, randomised(options))
    (line,) = export.export(folder, tmp_path / "a.onnx")
    assert "differs from torch by at most" in line and not (tmp_path / "a.stream.onnx").exists()


def test_the_command_line(model_dir: Path, wave: np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", wave)
    for strength in ("strong", "0.25"):
        result = cli("enhance", "--overwrite", "--model", model_dir, "--strength", strength,
                     tmp_path / "a.wav", tmp_path / "b.wav")  # fmt: skip
        assert result.returncode == 0, result.stderr
        number = {"strong": 1.0}.get(strength, 0.25)
        noisy, _ = audio.read_mono(tmp_path / "a.wav")
        expected = Denoiser.load(model_dir)(noisy, 16000, strength=number)
        heard, _ = audio.read_mono(tmp_path / "b.wav")
        np.testing.assert_allclose(heard, expected.clip(-1.0, 1.0), rtol=0.0, atol=2.0**-14)
    result = cli("enhance", "--strength", "much", tmp_path / "a.wav", tmp_path / "c.wav")
    assert result.returncode == 2 and "gentle, balanced, strong, or 0 to 1" in result.stderr
    pcm = (wave * 32767).astype("<i2").tobytes()
    outs = [
        subprocess.run(
            ["gan-denoise", "stream", "--model", str(model_dir), "--strength", strength, "-", "-"],
            input=pcm,
            capture_output=True,
            check=True,
        ).stdout
        for strength in ("gentle", "strong")
    ]
    assert len(outs[0]) == len(outs[1]) == len(pcm) and outs[0] != outs[1]


def test_a_plain_model_on_the_command_line(tmp_path: Path, wave: np.ndarray) -> None:
    options = TOLD | {"strength": False}
    folder = save(tmp_path / "plain", options, generators.build(options, sample_rate=16000))
    write(tmp_path / "a.wav", wave)
    result = cli("enhance", "--model", folder, "--strength", "gentle",
                 tmp_path / "a.wav", tmp_path / "b.wav")  # fmt: skip
    one_error_line(result, "strength: this model takes none")
    assert not (tmp_path / "b.wav").exists()


def test_new_parts_begin_by_changing_nothing(tmp_path: Path, wave: np.ndarray) -> None:
    """A model is where one that takes a strength, is deeper, or looks ahead may start."""
    plain = TOLD | {"strength": False}
    torch.manual_seed(0)
    before = generators.build(plain, sample_rate=16000).eval()
    folder = save(tmp_path / "model", plain, before)
    noisy = torch.from_numpy(wave)[None, None]
    deeper = TOLD | {"deeper": 2}
    for options in (TOLD, TOLD | {"name": "ahead"}, deeper, deeper | {"name": "ahead"}):
        generator = generators.build(options, sample_rate=16000).eval()
        checkpoint.initialise(generator, folder, options, 16000)
        for strength in (0.0, 1.0):
            with torch.inference_mode():
                now = generator(noisy, torch.tensor([strength]))
                torch.testing.assert_close(now, before(noisy), rtol=0.0, atol=1e-6)
    wider = TOLD | {"width": 16}
    with pytest.raises(InputError, match="holds .*'width': 8.*needed: .*'width': 16"):
        checkpoint.initialise(generators.build(wider, sample_rate=16000), folder, wider, 16000)


def test_a_mean_lies_between_a_model_and_its_start(
    tmp_path: Path, model_dir: Path, wave: np.ndarray
) -> None:
    plain = TOLD | {"strength": False}
    start = save(tmp_path / "start", plain, generators.build(plain, sample_rate=16000))
    mean_py = ROOT / "recipes/mean.py"
    one_error_line(run("python", mean_py, model_dir, start, tmp_path / "x"), "did not start from")
    generator, config = checkpoint.load_model(model_dir)
    model_dir = tmp_path / "begun"
    init = file_digest(start / "model.safetensors")
    checkpoint.save_model(model_dir, generator, config | {"init": init})
    for share in (0.0, 0.5, 1.0):
        out = tmp_path / f"{share:g}"
        command = ("python", mean_py, "--share", share, model_dir, start, out)
        assert run(*command).returncode == 0
        theirs, ours, mean = (
            checkpoint.load_model(folder)[0].state_dict() for folder in (start, model_dir, out)
        )
        expected = torch.lerp(theirs["widen.weight"], ours["widen.weight"], share)
        torch.testing.assert_close(mean["widen.weight"], expected)
        torch.testing.assert_close(mean["dial.0.weight"], ours["dial.0.weight"])
    one_error_line(run(*command), "exists: choose another OUT")
    config = checkpoint.load_model(tmp_path / "0.5")[1]
    assert config["mean"]["share"] == 0.5


def test_make_box_says_what_is_missing(tmp_path: Path) -> None:
    script = ROOT / "recipes/make_box.sh"
    nowhere = {"RIR_DIR": str(tmp_path), "NOISE_DIR": str(tmp_path / "no")}
    one_error_line(
        run("bash", script, tmp_path, tmp_path / "out", env=nowhere), "NOISE_DIR: set it"
    )
    result = run("bash", script, tmp_path, tmp_path / "out", "fast")
    assert result.returncode == 2 and "found fast" in result.stderr
    assert not (tmp_path / "out").exists()


def test_harm_weighs_as_the_strength_says() -> None:
    """Equal ratios from gentle to strong; 1 / 100 of the weight at the other end."""
    draw = torch.Generator().manual_seed(0)
    clean = 0.1 * torch.randn(2, 1, 8000, generator=draw)
    noisy = clean + 0.01 * torch.randn(2, 1, 8000, generator=draw)
    losses = Losses({"harm": [300.0, 3.0]})
    assert losses.take_strength and not Losses({"harm": 30.0}).take_strength
    worse = noisy + 0.1 * torch.randn(2, 1, 8000, generator=draw)
    plain = float(Losses({"harm": 1.0})(worse, clean, noisy)["harm"])
    for strength, weight in ((0.0, 300.0), (0.5, 30.0), (1.0, 3.0)):
        terms = losses(worse, clean, noisy, torch.full((2,), strength))
        assert float(weighted_sum(terms, losses.weights)) == pytest.approx(weight * plain, rel=1e-5)
    middle = float(losses(worse, clean, noisy)["harm"])
    assert middle == pytest.approx(30.0 * plain, rel=1e-5)
    for wrong in ([3.0, 300.0], [1.0], [0.0, 1.0], ["a", "b"]):
        with pytest.raises(InputError, match="losses: harm"):
            Losses({"harm": wrong})


def test_losses_of_noise_alone_ask_for_silence() -> None:
    """They are finite, fall when the noise is lowered, and reach every sample."""
    noise = 0.1 * torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(0))
    silence = torch.zeros_like(noise)
    losses = Losses({"l1": 1.0, "compressed": 1.0, "snr": 1.0, "harm": 1.0, "pmsqe": 1.0})
    before = None
    for gain in (1.0, 0.3, 0.1, 0.01):
        enhanced = (gain * noise).requires_grad_()
        terms = losses(enhanced, silence, noise)
        total = sum(terms.values())
        total.backward()
        assert enhanced.grad is not None
        assert torch.isfinite(enhanced.grad).all() and enhanced.grad.abs().max() > 0
        assert float(terms["harm"]) == 0.0
        assert before is None or float(total) < before
        before = float(total)
    lowered = [float(losses(gain * noise, silence, noise)["snr"]) for gain in (1.0, 0.1)]
    assert lowered[0] == pytest.approx(20.0, abs=0.1) and lowered[1] == pytest.approx(0.0, abs=0.1)
