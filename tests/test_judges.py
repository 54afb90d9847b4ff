"""Judges on demand: each scores one file on the terms of its own package.

Where a package is missing, there is one line.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gan_denoise
from conftest import cli, one_error_line, run, speech_like, write
from gan_denoise import metrics, scoring
from gan_denoise.metrics import Signals, distill_mos, speaker_ge2e, visqol, wer
from gan_denoise.provenance import code
from gan_denoise.scoring import Pair


def signals(enhanced: np.ndarray, clean: np.ndarray | None = None, **more: Any) -> Signals:
    return Signals(speech_like(0, 2.0) if clean is None else clean, enhanced, None, 16000, **more)


def test_a_new_metric_is_one_file(tmp_path: Path) -> None:
    """It is scored by name, and its code counts for those scores that hold it."""
    here = tmp_path / "gan_denoise"
    left_out = shutil.ignore_patterns("boxed", "__pycache__")
    shutil.copytree(Path(gan_denoise.__file__).parent, here, ignore=left_out)
    (here / "metrics/peak.py").write_text(
        "from gan_denoise.metrics.signals import Metric\n"
        "def peak(signals): return float(abs(signals.enhanced).max())\n"
        'METRICS = {"peak": Metric(peak, "peak", 3)}\n'
    )
    wave = write(tmp_path / "a.wav", 0.5 * np.ones(4000), subtype="FLOAT")
    program = (
        f"import sys; from pathlib import Path; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from gan_denoise import metrics, scoring\nfrom gan_denoise.provenance import code\n"
        'assert "peak" not in metrics.METRICS and code.of_scores() != code.of_scores(["peak"])\n'
        f"wave = Path({str(wave)!r})\n"
        'print(scoring._score_group((scoring.Pair("a", wave, wave), ("peak",))))\n'
    )
    result = run("python", "-c", program)
    assert result.stdout == "{'peak': (0.5, None)}\n", result.stderr


def test_a_digest_has_the_judges_that_scored_and_no_others() -> None:
    assert code.of_scores(metrics.METRICS) == code.of_scores()
    digests = [code.of_scores([name]) for name in ("wer", "distill_mos", "speaker_ge2e")]
    assert len({code.of_scores(), *digests}) == 4
    assert code.of_scores(["wer", "wer_words", "stoi"]) == digests[0]


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("distill_mos", "distillmos", "judges"),
        ("wer", "pocketsphinx", "judges"),
        ("speaker_ge2e", "resemblyzer", "judges"),
        ("visqol", "visqol", "judges"),
        ("dnsmos_ovrl", "speechmos", "dnsmos"),
    ],
)
def test_a_judge_without_its_package_is_one_line(
    name: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = write(tmp_path / "a.wav", speech_like(0))
    monkeypatch.setitem(sys.modules, package, None)
    result = cli("score", "--metrics", f"si_sdr,{name}", "--csv", tmp_path / "s.csv", wave, wave)
    one_error_line(result, f"({package}, for {name})", f'pip install ".[{extra}]"')
    assert not (tmp_path / "s.csv").exists()


def test_words_are_compared_without_case_and_punctuation() -> None:
    quoted = "\N{LEFT SINGLE QUOTATION MARK}Don\N{RIGHT SINGLE QUOTATION MARK}T go,\tSIX"
    expected = ["don't", "go", "six", "spoons", "of", "fresh", "snow", "peas"]
    assert wer.words(f" {quoted}\n spoons -- of 'fresh' SNOW-peas!") == expected
    assert wer.words("...") == []


def test_word_errors_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jiwer")
    clean, enhanced = speech_like(0), speech_like(1)
    said = {id(clean): "six spoons of fresh snow", id(enhanced): "six spoon fresh snow peas"}
    monkeypatch.setattr(wer, "heard", lambda wave, rate: said[id(wave)].split())

    def of(**more: Any) -> list[float]:
        pair = signals(enhanced, clean, **more)
        return [metrics.ALL[name].function(pair) for name in metrics.with_companions(["wer"])]

    assert of() == [3 / 5, 1, 1, 1, 5]  # rate, substitutions, deletions, insertions, words
    assert of(text="Six spoon, fresh snow.") == [1 / 4, 0, 0, 1, 4]  # the text goes first
    with pytest.raises(metrics.Unscorable, match="no word is in its text"):
        of(text="...")
    said[id(clean)] = ""
    with pytest.raises(metrics.Unscorable, match="no word is heard in the clean"):
        of()


def test_score_finds_the_text_beside_the_recordings(tmp_path: Path) -> None:
    assert scoring.texts_beside(tmp_path) == {}
    (tmp_path / "text").write_text("a SIX SPOONS\n")
    for clean in (tmp_path, tmp_path / "wav.scp", tmp_path / "a.wav"):
        assert scoring.texts_beside(clean) == {"a": "SIX SPOONS"}


def test_scores_rest_on_the_texts(tmp_path: Path) -> None:
    wave = write(tmp_path / "a.wav", speech_like(0))
    digests = [
        scoring.identity([Pair("a", wave, wave, text=text)], ["wer"]) for text in (None, "x", "y")
    ]
    assert len(set(digests)) == 3


def test_distill_mos_gets_16_khz_and_says_nothing_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            print("weights loaded from somewhere")

        def forward(self, x: Any) -> Any:
            assert x.dtype == torch.float32
            return torch.tensor([float(x.shape[-1])])

    package = types.SimpleNamespace(ConvTransformerSQAModel=Model)
    monkeypatch.setitem(sys.modules, "distillmos", package)
    distill_mos._model.cache_clear()
    wave = speech_like(0, 1.0, 48000)
    assert distill_mos.distill_mos(Signals(wave, wave, None, 48000)) == 16000.0
    with pytest.raises(metrics.Unscorable, match="longer than 60 s"):
        distill_mos.distill_mos(signals(np.zeros(61 * 16000)))
    assert capsys.readouterr().out == ""
    distill_mos._model.cache_clear()


def test_visqol_gets_48_khz_and_the_clean_recording_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def create(self, mode: str) -> None:
            assert mode == "audio"

        def measure_from_arrays(self, clean: Any, enhanced: Any, rate: int) -> Any:
            assert len(clean) == len(enhanced) == rate == 48000
            return types.SimpleNamespace(moslqo=np.abs(clean).max() / np.abs(enhanced).max())

    monkeypatch.setitem(sys.modules, "visqol", types.SimpleNamespace(VisqolApi=Api))
    visqol._model.cache_clear()
    wave = speech_like(0, 1.0)
    assert visqol.visqol(signals(wave / 4, wave)) == pytest.approx(4.0)
    visqol._model.cache_clear()


@pytest.mark.skipif(not importlib.util.find_spec("visqol"), reason="not installed: visqol-python")
def test_visqol_hears_noise() -> None:
    clean = speech_like(0, 1.0)
    noise = np.random.default_rng(0).standard_normal(len(clean)) / 30
    scores = [visqol.visqol(signals(wave, clean)) for wave in (clean, clean + noise)]
    assert scores[0] > 4.5 > 4.0 > scores[1] > 1.0


def installed(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@installed("distillmos")
def test_distill_mos_is_the_packages() -> None:
    import torch

    model, wave = distill_mos._model(), speech_like(0, 2.0)
    with torch.no_grad():
        expected = float(model(torch.from_numpy(wave.astype(np.float32))[None]))
    assert distill_mos.distill_mos(signals(wave)) == pytest.approx(expected, abs=1e-5)
    noise = np.random.default_rng(0).standard_normal(len(wave)) / 10
    assert distill_mos.distill_mos(signals(wave + noise)) < 3.0


@installed("pocketsphinx", "jiwer")
def test_what_is_heard_does_not_depend_on_what_was_heard_before() -> None:
    one, other = (speech_like(number, 2.0) for number in range(2))
    first = wer.heard(one, 16000)
    wer.heard(other, 16000)
    assert wer.heard(one, 16000) == first


@installed("resemblyzer", "webrtcvad", "librosa")
def test_a_learnt_embedding_hears_the_person_and_not_the_level() -> None:
    wave = speech_like(0, 2.0)
    if (one := speaker_ge2e.embedding(wave, 16000)) is None:
        pytest.skip("its voice detector finds no voice in synthetic speech")
    assert one.shape == (256,)
    assert speaker_ge2e.speaker_ge2e(signals(wave, wave)) == pytest.approx(1.0, abs=1e-6)
    with pytest.raises(metrics.Unscorable, match="voice in the enhanced"):
        speaker_ge2e.speaker_ge2e(signals(1e-4 * np.ones(32000), wave))
