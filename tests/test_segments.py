"""Segments of recordings: cut, scaled and damaged by seed and position; batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_denoise import audio, datadir
from gan_denoise.corruption.noise import Procedure
from gan_denoise.corruption.segments import Batches, Segments
from gan_denoise.errors import InputError


def segments(prepared: Path, **changes: Any) -> Segments:
    options = {"length": 8000, "sample_rate": 16000, "gain_db": [-6.0, 6.0], "seed": 3, **changes}
    return Segments(datadir.read(prepared / "train", noisy=True), **options)


def test_segments_are_a_function_of_seed_and_position(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards, backwards = segments(prepared), segments(prepared)
    items = {position: forwards[position] for position in range(30)}
    for position in reversed(range(30)):
        item = backwards[position]
        assert item["utt_id"] == items[position]["utt_id"]
        assert torch.equal(item["noisy"], items[position]["noisy"])
    count = len(datadir.read(prepared / "train"))
    for epoch in range(2):  # every utterance once an epoch, in another order each time
        assert len({items[epoch * count + i]["utt_id"] for i in range(count)}) == count
    assert any(items[i]["utt_id"] != items[count + i]["utt_id"] for i in range(count))
    others = [segments(prepared, seed=4), segments(prepared, draws="discriminator")]
    assert all(
        any(other[i]["utt_id"] != items[i]["utt_id"] for i in range(count)) for other in others
    )
    # A corpus too large for memory reads the same
    monkeypatch.setattr("gan_denoise.corruption.segments._CACHE_BYTES", 0)
    assert torch.equal(segments(prepared)[7]["clean"], items[7]["clean"])


def test_segments_are_aligned_pairs_with_one_gain(prepared: Path) -> None:
    data = datadir.read(prepared / "train", noisy=True)
    longer = segments(prepared, length=20000)  # most recordings are shorter: zeros follow
    for position in range(8):
        item = longer[position]
        clean, noisy = item["clean"][0].numpy(), item["noisy"][0].numpy()
        length = round(data.utt2dur[item["utt_id"]] * 16000)
        assert not clean[length:].any() and not noisy[length:].any()
        assert 0.5 < (clean @ noisy) / (clean @ clean) < 1.5


def test_batches_do_not_depend_on_the_number_of_processes() -> None:
    whole = list(Batches(5, 8, batch_size=6))
    shares = [
        list(Batches(5, 8, batch_size=6, process=process, processes=2)) for process in range(2)
    ]
    assert whole == [first + second for first, second in zip(*shares, strict=True)]
    assert whole[0] == list(range(30, 36)) and len(Batches(5, 8, batch_size=6)) == 3
    with pytest.raises(InputError, match="batch_size=5 cannot be shared by 2"):
        Batches(0, 1, batch_size=5, processes=2)


def test_a_segment_can_begin_on_the_procedures_grid(prepared: Path) -> None:
    data = datadir.read(prepared / "train", noisy=True)
    cut, free = segments(prepared, cut=256), segments(prepared)
    for position in range(6):
        segment, other = cut[position], free[position]
        whole, _ = audio.read_mono(data.wav[segment["utt_id"]])
        windows = np.lib.stride_tricks.sliding_window_view(whole, segment["clean"].shape[-1])
        starts = []
        for each in (segment, other):
            wave = each["clean"][0].numpy()
            match = windows @ wave / (np.linalg.norm(windows, axis=1) * np.linalg.norm(wave) + 1e-9)
            starts.append(int(match.argmax()))
        assert starts[0] == starts[1] - starts[1] % 256


def test_fresh_noise_is_the_same_procedure_drawn_anew_at_every_visit(prepared: Path) -> None:
    record = datadir.read_noise(prepared / "train")
    procedure = Procedure.of_data(record, prepared / "train")
    drawn, fresh = segments(prepared), segments(prepared, fresh_noise=procedure)
    count = len(datadir.read(prepared / "train"))
    snr_db = []
    for position in range(count):
        item, other = drawn[position], fresh[position]
        assert torch.equal(item["clean"], other["clean"]) and not torch.equal(
            item["noisy"], other["noisy"]
        )
        for pair in (item, other):
            clean, noise = pair["clean"], pair["noisy"] - pair["clean"]
            snr_db.append(10 * float(torch.log10(clean.square().sum() / noise.square().sum())))
    assert np.mean(snr_db[::2]) == pytest.approx(np.mean(snr_db[1::2]), abs=1.0)
    # Resumable
    assert torch.equal(segments(prepared, fresh_noise=procedure)[3]["noisy"], fresh[3]["noisy"])
    again = next(p for p in range(count, 2 * count) if fresh[p]["utt_id"] == fresh[0]["utt_id"])
    assert fresh[again]["utt_id"] == fresh[0]["utt_id"] and not torch.equal(
        fresh[again]["noisy"], fresh[0]["noisy"]
    )
    with pytest.raises(InputError, match="cannot be drawn anew: set fresh_noise=false"):
        Procedure.of_data({**record, "procedure": "given by the corpus"}, prepared / "train")
    with pytest.raises(InputError, match="has changed since"):
        Procedure.of_data({**record, "fingerprint": "0"}, prepared / "train")
