"""Rooms for scenes: measured impulse responses, and those of simulated shoebox rooms.

The simulation is the image-source method (Allen and Berkley 1979, as in pyroomacoustics: Scheibler
et al. 2018).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_denoise import audio
from gan_denoise.errors import InputError

LONGEST_S = 0.8  # reverberation time; to simulate a room of 1 s takes 5 s and 1.8 GB
_SMALLEST_M, _LARGEST_M = (3.0, 3.0, 2.4), (8.0, 7.0, 3.5)
_FROM_WALLS_M = 0.3
_SOUND_M_S = 343.0
_BEFORE_DIRECT = 40  # samples by which the simulation's interpolation precedes the direct sound
_LONGEST_MEASURED_S = 1.5  # a longer measured response is cut
_ELSEWHERE = 0.3  # gain of a measured response's early part for noise, which is farther away
_TRIES = 200  # draws for a room that has the reverberation time, and a place for the talker


class Room(NamedTuple):
    """Impulse responses (R,) float32 to one microphone.

    early: the talker's direct sound with the first reflections, of unit energy. full: the talker's
    sound with all reflections. noise: the sound of a noise elsewhere in the room.
    """

    early: np.ndarray
    full: np.ndarray
    noise: np.ndarray


def measured(folder: Path, *, early_ms: float, sample_rate: int) -> list[list[Room]]:
    """Rooms made from the impulse responses in a folder, as lists of positions.

    The recordings are mono; those whose names differ only after the last `_` are positions in one
    room. early_ms: as for `simulate`. Raises InputError.
    """
    rooms: dict[str, list[Room]] = {}
    for path in audio.find(folder):
        response, _ = audio.read_mono(path, sample_rate=sample_rate)
        direct = max(0, int(np.argmax(np.abs(response))) - _BEFORE_DIRECT)
        full = response[direct : direct + round(_LONGEST_MEASURED_S * sample_rate)]
        early_length = 2 * _BEFORE_DIRECT + round(1e-3 * early_ms * sample_rate)
        early = full[:early_length]
        full = full / np.sqrt(np.sum(early.astype(np.float64) ** 2)).astype(np.float32)
        noise = full.copy()
        noise[:early_length] *= _ELSEWHERE
        room = Room(full[:early_length], full, noise)
        rooms.setdefault(path.stem.rpartition("_")[0], []).append(room)
    if not rooms:
        raise InputError(f"rooms: {folder}: holds no recordings: name a folder of room responses")
    return list(rooms.values())


def simulate(
    count: int,
    *,
    rt60_s: tuple[float, float],
    distance_m: tuple[float, float],
    early_ms: float,
    sample_rate: int,
) -> list[Room]:
    """Simulate rooms, the same on every machine.

    A room takes 0.02 to 0.6 s to compute, longer for more reverberation. rt60_s: reverberation
    times, [low, high], at most LONGEST_S. distance_m: from talker to microphone, [low, high].
    early_ms: the part of the response after the direct sound that counts as early. Raises
    InputError.
    """
    try:
        import pyroomacoustics
    except ImportError as error:
        raise InputError(
            f'rooms need more packages ({error.name}): pip install ".[rooms]"'
        ) from error
    pyroomacoustics.constants.set("num_threads", 1)  # sums differ between numbers of threads
    draw = np.random.default_rng(0)
    rooms: list[Room] = []
    for _ in range(_TRIES * count):
        size = draw.uniform(_SMALLEST_M, _LARGEST_M)
        rt60, distance, angle = draw.uniform(*rt60_s), draw.uniform(*distance_m), draw.uniform(0, 1)
        lowest, highest = np.full(3, _FROM_WALLS_M), size - _FROM_WALLS_M
        microphone, noise = draw.uniform(lowest, highest), draw.uniform(lowest, highest)
        direction = [np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle), 0.0]
        talker = microphone + distance * np.array(direction)
        if (talker < lowest).any() or (talker > highest).any():
            continue
        try:
            absorption, order = pyroomacoustics.inverse_sabine(rt60, size)
        except ValueError:  # so large a room reverberates longer
            continue
        material = pyroomacoustics.Material(absorption)
        room = pyroomacoustics.ShoeBox(size, sample_rate, materials=material, max_order=order)
        room.add_source(talker)
        room.add_source(noise)
        room.add_microphone(microphone)
        room.compute_rir()
        direct = round(distance / _SOUND_M_S * sample_rate)  # where the interpolation begins
        length = direct + 2 * _BEFORE_DIRECT + round(rt60 * sample_rate)
        full, other = (np.asarray(response[:length]) for response in room.rir[0])
        full = full[direct:]
        early = full[: 2 * _BEFORE_DIRECT + round(1e-3 * early_ms * sample_rate)]
        scale = 1.0 / np.sqrt(np.sum(early**2))
        early, full, other = ((scale * wave).astype(np.float32) for wave in (early, full, other))
        rooms.append(Room(early, full, other))
        if len(rooms) == count:
            return rooms
    raise InputError(
        f"rooms: {len(rooms)} of {count} have rt60_s {list(rt60_s)} and distance_m"
        f" {list(distance_m)}: try 0.2 to 0.6 s, and up to 2 m"
    )
