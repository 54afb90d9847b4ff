"""Export to ONNX, and live use by the graph beside the weights."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gan_denoise
from conftest import ROOT, cli, one_error_line, run, speech_like, write
from gan_denoise import audio, export, graph
from gan_denoise.checkpoint import load_model, save_model
from gan_denoise.contract import streams
from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.generators import bands
from gan_denoise.packaged import BOXED
from gan_denoise.signal import streaming
from small_models import SMALL, in_pieces, randomised, save, whole


def test_export_by_a_users_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's commands and the card's example, with the model in the package."""
    onnx, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxruntime"))
    result = cli("export", "boxed", tmp_path / "denoise.onnx")
    assert result.returncode == 0, result.stderr
    one_error_line(cli("export", "boxed", tmp_path / "denoise.onnx"), "denoise.onnx: exists")
    for name in ("denoise.onnx", "denoise.stream.onnx"):  # which tell nothing of this machine
        assert str(ROOT).encode() not in (tmp_path / name).read_bytes()
    model = onnx.load(tmp_path / "denoise.stream.onnx")
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)  # for old runtimes
    steps = model.graph.node
    assert "Shape" not in {node.op_type for node in steps}  # nothing is worked out anew at each hop
    ours = onnx.load(BOXED["live"] / graph.NAME)  # what live use runs: as the code makes it today
    assert [node.op_type for node in ours.graph.node] == [node.op_type for node in steps]
    session = onnxruntime.InferenceSession(tmp_path / "denoise.stream.onnx")
    ends = {end.name: end.shape for end in [*session.get_inputs(), *session.get_outputs()]}
    assert ends["noisy"] == ends["enhanced"] == ["batch", "samples"]
    assert ends["memory"] == ends["memory_after"] == ["batch", 4, 24, 64]
    about = session.get_modelmeta().custom_metadata_map
    assert (about["sample_rate"], about["latency"], about["hop_length"]) == ("16000", "512", "256")
    assert (
        about["licence"]
        and about["procedure"]
        and json.loads(about["state"])["heard"] == ["batch", 2, 63, 1]
    )

    noisy = speech_like(0, 3.0).astype(np.float32)
    denoiser = gan_denoise.load("live")
    session = onnxruntime.InferenceSession(tmp_path / "denoise.onnx")
    (enhanced,) = session.run(None, {"noisy": noisy[None]})
    np.testing.assert_allclose(enhanced[0], denoiser(noisy, 16000), atol=1e-4)

    (example,) = re.findall(
        r"```python\n(.*?)```", (BOXED["live"].parent / "CARD.md").read_text(), re.S
    )
    write(tmp_path / "noisy.wav", noisy, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "CARD.md", "exec"), {})
    live = audio.read_mono(tmp_path / "enhanced.wav")[0]
    assert len(live) == len(noisy)
    np.testing.assert_allclose(live, denoiser(noisy, 16000), atol=1e-3)


def test_live_use_runs_the_graph_beside_the_weights() -> None:
    pytest.importorskip("onnxruntime")
    device: Any = torch.device("cpu")  # which works too, though the annotation says str
    denoiser, draw = gan_denoise.load("live", device=device), np.random.default_rng(0)
    assert isinstance(denoiser.live_generator, graph.Graph)
    wave = np.stack([speech_like(i, 4.0) for i in range(2)], axis=1).astype(np.float32)
    expected = whole(denoiser.generator, wave)
    for largest in (2000, len(wave)):  # of pieces that it takes at once, and of longer ones
        live = np.concatenate(in_pieces(denoiser.stream(channels=2), wave, draw, largest))
        np.testing.assert_allclose(live, expected, rtol=0.0, atol=1e-5)


def test_a_step_that_fails_loses_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is out of memory, say: the caller may go on."""
    denoiser, wave = gan_denoise.load("live"), speech_like(0)[:, None].astype(np.float32)
    expected, live = denoiser.stream().push(wave), denoiser.stream()
    with monkeypatch.context() as patch:
        patch.setattr(denoiser.live_generator, "step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            live.push(wave[:5000].copy())
    np.testing.assert_array_equal(live.push(wave[5000:]), expected)


def test_a_push_that_fails_at_its_second_step_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denoiser, step_s = gan_denoise.load("live"), 0.5
    monkeypatch.setattr(streaming, "_STEP_S", step_s)
    wave = speech_like(0, 4 * step_s)[:, None].astype(np.float32)
    expected, live = denoiser.stream().push(wave), denoiser.stream()
    real, calls = denoiser.live_generator.step, itertools.count()

    def step(*inputs: Any) -> Any:
        return 1 / 0 if next(calls) == 1 else real(*inputs)

    monkeypatch.setattr(denoiser.live_generator, "step", step)
    with pytest.raises(ZeroDivisionError):
        live.push(wave[:-5000])
    np.testing.assert_array_equal(live.push(wave[-5000:]), expected)


def test_a_graph_is_that_of_the_weights_that_were_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(BOXED["live"], tmp_path / "a model")
    monkeypatch.chdir(tmp_path)
    before, wave = Denoiser.load("a model"), speech_like(0)[:, None].astype(np.float32)
    generator, about = load_model(folder)
    assert isinstance(generator, bands.Generator)
    with torch.no_grad():
        generator.head.bias.add_(1e-3)
    save_model(folder, generator, about)  # as another training does
    monkeypatch.chdir(tmp_path.parent)
    assert isinstance(before.live_generator, graph.Graph)
    remedy = f"--overwrite '{folder}' '{folder}/model.onnx'"
    with pytest.raises(InputError, match=f"model.stream.onnx: belongs to another model .*{remedy}"):
        Denoiser.load(folder).stream()
    other = about["generator"] | {"level_ms": 512.0}  # which shapes no weight
    save_model(folder, before.generator, about | {"generator": other})
    with pytest.raises(InputError, match="belongs to another model"):
        Denoiser.load(folder).stream()
    (folder / graph.NAME).write_bytes((folder / graph.NAME).read_bytes()[:1000])
    with pytest.raises(InputError, match=r"onnxruntime .* cannot open it \(.*\): remove it"):
        Denoiser.load(folder).stream()
    with monkeypatch.context() as patch:  # it may be there for the sake of something else
        patch.setattr("onnxruntime.__version__", "1.16.3")
        denoiser = Denoiser.load(folder)
        assert streams(denoiser.generator) and denoiser.live_generator is denoiser.generator
        assert denoiser.live_note
        assert denoiser.live_note.startswith("onnxruntime 1.16.3 is too old")
    Denoiser.load(folder)(wave, 16000)  # files do without

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    denoiser = Denoiser.load(folder)
    assert streams(denoiser.generator) and denoiser.live_generator is denoiser.generator
    assert len(denoiser.stream().push(wave)) > 15000


def test_live_use_tells_nobody(tmp_path: Path) -> None:
    """Onnxruntime would, and leaves traces in these folders."""
    pytest.importorskip("onnxruntime")
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    program = "import gan_denoise; print(type(gan_denoise.load().live_generator).__name__)"
    result = run("python", "-c", program, env=places, cwd=tmp_path)
    assert result.stdout == "Graph\n", result.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", ["hifigan", "segan"])
def test_every_kind_of_generator_exports(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    smaller: dict[str, dict[str, Any]] = {"hifigan": {"scales": 1}, "segan": {"channels": [4, 8]}}
    options = SMALL[name] | smaller[name]
    folder = save(tmp_path / "model", options, randomised(options))
    (line,) = export.export(folder, tmp_path / "a.onnx")  # which compares it with torch
    assert "differs from torch by at most" in line
    with pytest.raises(InputError, match="exists"):
        list(export.export(folder, tmp_path / "a.onnx"))
    with pytest.raises(InputError, match=r"name it a\.onnx"):
        list(export.export(folder, tmp_path / "a.bin"))
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(InputError, match=r"export needs torch 2\.13, found 2\.6\.0"):
        list(export.export(folder, tmp_path / "b.onnx"))
