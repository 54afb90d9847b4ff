"""What a generator costs, in the tables: multiplications for a second of audio."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from conftest import ROOT
from gan_denoise import generators
from reporting import tables
from reporting.cost import macs_per_second
from reporting.statistics import Run

RATE = 16000
OPTIONS = {"name": "any"}


class Layered(nn.Module):
    """Looks at frames of 16 samples."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, wave: Tensor) -> Tensor:
        return self.layer(wave.reshape(1, -1, 16))


class Attention(nn.Module):
    def forward(self, frames: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(frames, frames, frames)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(16, 8), RATE // 16 * 16 * 8),
        (nn.LSTM(16, 8, batch_first=True), RATE // 16 * 4 * 8 * (16 + 8)),
        (nn.GRU(16, 8, batch_first=True), RATE // 16 * 3 * 8 * (16 + 8)),
        (Attention(), 2 * (4 * RATE // 16) ** 2 * 16 // 4),  # of four seconds, a quarter
        (nn.Conv1d(4 * RATE // 16, 2, 3, padding=1), 2 * 4 * RATE // 16 * 3 * 16 // 4),
    ],
    ids=["linear", "lstm", "gru", "attention", "convolution"],
)
def test_each_kind_of_layer_is_counted(
    monkeypatch: pytest.MonkeyPatch, layer: nn.Module, expected: int
) -> None:
    def build(options: Any, *, sample_rate: int) -> nn.Module:
        assert (options, sample_rate) == (OPTIONS, RATE)
        return Layered(layer)

    monkeypatch.setattr(generators, "build", build)
    assert macs_per_second(OPTIONS, RATE) == expected


def test_a_real_generator_costs_its_weights_at_every_frame() -> None:
    options = {"name": "convnext", "width": 16, "blocks": 2}
    generator = generators.build(options, sample_rate=RATE)
    weights = sum(p.numel() for p in generator.parameters() if p.dim() > 1)
    frames = RATE / generator.hop_length
    assert macs_per_second(options, RATE) == pytest.approx(weights * frames, rel=0.05)


def test_the_tables_show_it_where_it_is_known() -> None:
    heading, *rows = tables.systems(Run.read(ROOT / "egs/vctk/results/all"))
    named = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    assert (named["grid"]["weights"], named["grid"]["MACs/s"]) == ("0.39 M", "2.39 G")
    assert named["noisy"]["MACs/s"] == ""
