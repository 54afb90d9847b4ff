"""A new part is one new file: nothing else has to be told of it.

Generators are in test_generators, experiments in test_experiments.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from conftest import speech_like, write
from gan_denoise import discriminators, losses
from gan_denoise.discriminators import Bank
from gan_denoise.losses import Losses
from kaldi import corpora


def add(
    package: ModuleType, name: str, text: str, monkeypatch: pytest.MonkeyPatch, to: Path
) -> None:
    """The file NAME.py in another folder, as if it lay in a package's own."""
    (to / f"{name}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(to)])
    monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}", raising=False)


def test_a_discriminator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
from torch import Tensor, nn
from gan_denoise import contract
class Discriminator(contract.Discriminator):
    def __init__(self, in_channels: int = 1, channels: int = 4):
        super().__init__()
        self.first, self.score = nn.Conv1d(in_channels, channels, 9), nn.Conv1d(channels, 1, 1)
    def forward(self, wave: Tensor) -> contract.Maps:
        hidden = self.first(wave).relu()
        return [[hidden, self.score(hidden)]]
"""
    add(discriminators, "short", text, monkeypatch, tmp_path)
    bank = Bank({"short": {"channels": 6}}, conditional=True, seed=0)
    (maps,) = bank(*torch.randn(2, 3, 1, 100))
    assert [tuple(one.shape) for one in maps] == [(3, 6, 92), (3, 1, 92)]


def test_a_loss_with_a_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
from torch import Tensor
from gan_denoise import contract
class Loss(contract.Loss):
    def __init__(self, power: float = 2.0):
        super().__init__()
        self.power = power
    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        return (enhanced - clean).abs().pow(self.power).mean()
"""
    add(losses, "power", text, monkeypatch, tmp_path)
    functions = Losses({"power": {"weight": 0.5, "power": 3.0}})
    assert functions.weights == {"power": 0.5}
    enhanced, clean = torch.full((2, 1, 8), 2.0), torch.zeros(2, 1, 8)
    assert functions(enhanced, clean, clean) == {"power": 8.0}


def test_a_layout_of_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
from kaldi.corpora.listing import Listing, Recording
def read(folder, known_speakers):
    files = sorted((folder / "takes").glob("*.wav"))
    takes = [Recording(path.stem, path.stem.split("-")[0], path) for path in files]
    return Listing("takes", takes, []) if takes else None
"""
    add(corpora, "takes", text, monkeypatch, tmp_path)
    names = ("ann-1", "ann-2", "bob-1")
    for seed, name in enumerate(names):
        write(tmp_path / f"studio/takes/{name}.wav", speech_like(seed))
    listing = corpora.read(tmp_path / "studio")
    assert listing.layout == "takes"
    assert [(one.utt_id, one.speaker) for one in listing.recordings] == [
        (name, name[:3]) for name in names
    ]
