"""The tables of a model's card: rows of their own mixtures, and denoisers from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import card
from conftest import local, one_error_line, speech_like, write
from gan_denoise.errors import InputError
from gan_denoise.system import workers


def test_a_cards_rows_are_of_their_own_mixtures(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order they come back."""

    def backwards(work: Any, tasks: Any, **options: Any) -> Iterator[Any]:
        for task in reversed(tasks):
            snr_db = float(task.condition.split()[0])
            before, after = [1.5, 0.5, snr_db], [2.5, 0.75, snr_db + 4.0]
            yield workers.Outcome(task, np.array([before, after]))

    monkeypatch.setattr(workers, "each", backwards)
    noise = write(tmp_path / "noise/rain.wav", speech_like(0)).parent
    for split in ("train", "test"):
        chosen = "5 dB; 10 dB, room"
        words = ("--utterances", 5, "--conditions", chosen, "model", prepared / split, noise, noise)
        result = local("card", *words)
        assert result.returncode == 0, result.stderr
        table = dict(line[2:].split(" |", 1) for line in result.stdout.splitlines()[2:])
        for name, snr in (("5 dB", 5), ("10 dB, room", 10)):
            row = f"| {snr}.00 → {snr + 4}.00 (+4.00) |"
            assert table[name].endswith(row)
    result = local("card", "--conditions", "5 db", "model", prepared / "test", noise, noise)
    one_error_line(result, "unknown name '5 db'", "5 dB")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("cp {in} {out}", None),
        ("false {in} {out}", "it wrote nothing: run it by hand"),
        ("cp {in}", "cp .in.: .*: run it by hand"),
    ],
)
def test_a_card_runs_other_denoisers_by_their_command(command: str, expected: str | None) -> None:
    noisy = 0.5 * speech_like(0)
    peer = card.System(Path("peer"), command)
    if expected:
        with pytest.raises(InputError, match=expected):
            peer(noisy, 16000)
    else:
        np.testing.assert_allclose(peer(noisy, 16000), noisy, atol=2e-5)  # of 16 bits
        assert not peer.takes_strength
