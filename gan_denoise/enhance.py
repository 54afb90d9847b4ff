"""Denoise signals and files with a trained model, in constant memory.

A signal may have any length, rate and number of channels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import safetensors.torch
import torch

from gan_denoise import audio, generators
from gan_denoise.audio.encoding import Writer
from gan_denoise.checkpoint import load_model, weights_of
from gan_denoise.contract import BALANCED, Generator, Steps, streams, takes_strength
from gan_denoise.errors import InputError, nearest
from gan_denoise.graph import Beside
from gan_denoise.high_band import HighBand, Network
from gan_denoise.packaged import BOXED, HIGH, model_folder
from gan_denoise.signal.around import Around, Ends, Resampled
from gan_denoise.signal.arrays import as_columns, as_rate, check_channels
from gan_denoise.signal.linked import Linked
from gan_denoise.signal.resampling import behind_s
from gan_denoise.signal.streaming import (
    Live,
    Mixed,
    Stage,
    Stream,
    Windowed,
    Windows,
    Wire,
)

STRENGTHS = {"gentle": 0.0, "balanced": BALANCED, "strong": 1.0}
# What becomes of the band above half of the model's sample rate
Above = Literal["model", "drop", "keep"]
ABOVE: tuple[Above, ...] = get_args(Above)
# Whether several channels get the same mask, or each its own
Stereo = Literal["linked", "separate"]
STEREO: tuple[Stereo, ...] = get_args(Stereo)
_BLOCK_SAMPLES = 2**17  # of all channels, read from a file at once

# A forked child has none of its parent's threads, and OpenMP would wait for them for ever
os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


class Denoiser:
    """A generator with the sample rate at which it was trained.

    `denoiser(wave, sample_rate)` returns the enhanced wave.

    beside: a graph of the generator for live use, on the CPU. live: another model, which streams
    for this one. high: what lowers noise above the model's band. options: the settings from which
    the generator was built, for `packed`.
    """

    def __init__(
        self,
        generator: Generator,
        sample_rate: int,
        *,
        device: str | torch.device = "cpu",
        beside: Beside | None = None,
        live: Denoiser | None = None,
        high: Network | None = None,
        options: Mapping[str, Any] | None = None,
    ):
        self.generator = generator.to(device=device, dtype=torch.float32).eval()
        self.sample_rate, self._beside = sample_rate, beside
        self._other, self._high, self._options = live, high, options
        self._live: Steps | None = None

    @classmethod
    def load(cls, model_dir: str | Path | None = None, *, device: str = "cpu") -> Denoiser:
        """Load a model directory, or a model of the package by its name, such as "live".

        None loads both models of the package: "files" for waves and files, "live" for streams.
        Raises InputError when there is no such model or no such device.
        """
        _check_model(model_dir, device)
        live = cls.load("live", device=device) if model_dir is None else None
        folder = model_folder("files" if model_dir is None else model_dir)
        generator, config = load_model(folder)
        generator.requires_grad_(False)  # else torch chooses slower products of small matrices
        try:
            on_cpu = torch.device(device).type == "cpu"
            beside = Beside(folder, config) if on_cpu else None
            rate = config["sample_rate"]
            denoiser = cls(
                generator,
                rate,
                device=device,
                beside=beside,
                live=live,
                high=Network.load(HIGH) if folder in BOXED.values() else None,
                options=config["generator"],
            )
            if not on_cpu:  # some only show when they work
                denoiser(np.zeros(64), denoiser.sample_rate)
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"device {device!r}", f"not available here ({str(error).splitlines()[0]})"
            ) from error
        return denoiser

    def packed(self) -> tuple[Mapping[str, Any], int, bytes, Network | None]:
        """What `unpack` needs to load this model in another process.

        It holds the weights, so the model's directory may have changed since.
        """
        assert self._options is not None  # of what `load` gives
        return self._options, self.sample_rate, weights_of(self.generator), self._high

    @classmethod
    def unpack(
        cls,
        options: Mapping[str, Any],
        sample_rate: int,
        weights: bytes,
        high: Network | None,
        *,
        device: str = "cpu",
    ) -> Denoiser:
        """The denoiser that was `packed`, for files."""
        generator = generators.build(options, sample_rate=sample_rate)
        generator.load_state_dict(safetensors.torch.load(weights))
        generator.requires_grad_(False)  # as in `load`
        return cls(generator, sample_rate, device=device, high=high, options=options)

    def __call__(
        self,
        wave: Any,
        sample_rate: int,
        *,
        mix: float = 1.0,
        high_band: str | None = None,
        strength: float | str | None = None,
        stereo: str = "linked",
    ) -> np.ndarray:
        """Enhance (T,) or (T, channels) samples at `sample_rate` Hz.

        Returns float32 of the same shape, aligned in time and as loud, with 1.0 as full scale.

        wave: an array or tensor of floats, or of integers, which are divided by their full scale.
        mix, high_band, strength, stereo: see `blocks`. Raises InputError for other shapes, types,
        rates and values, for an empty or non-finite wave, and for a model whose output is not
        finite.
        """
        columns = as_columns(wave)
        size = _block_frames(columns.shape[1])
        pieces = (columns[start : start + size] for start in range(0, len(columns), size))
        options: Any = {"mix": mix, "high_band": high_band, "strength": strength, "stereo": stereo}
        enhanced = list(self.blocks(pieces, sample_rate, columns.shape[1], **options))
        return np.concatenate(enhanced).reshape(np.shape(wave))

    def blocks(
        self,
        wave: Iterable[np.ndarray],
        sample_rate: int,
        channels: int,
        *,
        mix: float = 1.0,
        high_band: str | None = None,
        strength: float | str | None = None,
        stereo: str = "linked",
    ) -> Iterator[np.ndarray]:
        """Enhance pieces of a signal, (n, channels) float32 each, of any sizes.

        Yields pieces of the enhanced signal, which have as many samples in all.

        mix: 1 enhanced only, 0 input only.

        high_band: what becomes of the input above half the model's sample rate, which the model
        does not hear. "model" lowers its noise with the packaged models, "drop" removes it, "keep"
        leaves it as it is. None is "model" where that is possible, else "drop".

        strength: from 0 or "gentle", which spares the speech, over "balanced", which is the same as
        None, to 1 or "strong", which spares no noise.

        stereo: "linked" gives all channels the same mask where they hold the same sound, so that it
        keeps its place between them; "separate" enhances them one by one.

        Raises InputError for other values of these, for a strength where the model takes none, and
        for a model whose output is not finite.
        """
        sample_rate, mix = as_rate(sample_rate), as_mix(mix)
        _check_word("stereo", stereo, STEREO)
        above, told = self._above(high_band, sample_rate), self.as_strength(strength)
        network: Stage = (
            Stream(self.generator, channels, self.sample_rate, told)
            if streams(self.generator)
            else Windows(self.generator, channels, told)
            if hasattr(self.generator, "one_window")
            else Windowed(self.generator, channels, self.sample_rate, told)
        )
        if channels > 1 and stereo == "linked":
            network = Linked(network, self.sample_rate, channels)
        linked, wire = stereo == "linked", Wire(channels)
        enhanced = Around(self._ends(above, sample_rate, channels, told, linked=linked), network)
        # From the input to the output, in several ways
        paths: list[tuple[float, Stage]] = [(mix, enhanced), (1.0 - mix, wire)]
        if above == "keep":
            heard = Around(Resampled(sample_rate, self.sample_rate, channels), wire)
            paths += [(mix, wire), (-mix, heard)]
        mixed = Mixed(*paths)
        for piece in wave:
            yield _finite(mixed.push(piece))
        yield _finite(mixed.flush())

    def _above(self, high_band: str | None, sample_rate: int) -> Above | None:
        """What becomes of the band above the model's; None where the signal has none.

        Raises InputError.
        """
        self.check_high_band(high_band)
        if sample_rate <= self.sample_rate:
            return None
        return cast(Above, high_band or ("model" if self._high else "drop"))

    def check_high_band(self, high_band: str | None) -> None:
        """Raise InputError for a word that `high_band` does not know, or this model cannot do."""
        _check_word("high_band", high_band, (*ABOVE, None))
        if high_band == "model" and self._high is None:
            raise InputError(
                "high_band",
                "this model has nothing that works above its band",
                'leave it out, or say "drop" or "keep"',
            )

    def ends(
        self, sample_rate: int, channels: int, strength: float | None, high_band: str | None = None
    ) -> Ends:
        """What stands around the model in live use, where each channel is by itself."""
        above = self._above(high_band, sample_rate)
        return self._ends(above, sample_rate, channels, strength, linked=False, quality="HQ")

    def _ends(
        self,
        above: Above | None,
        sample_rate: int,
        channels: int,
        strength: float | None,
        *,
        linked: bool,
        **quality: str,
    ) -> Ends:
        if above == "model" and self._high is not None and strength is not None:
            return HighBand(
                self._high, sample_rate, channels, strength=strength, linked=linked, **quality
            )
        return Resampled(sample_rate, self.sample_rate, channels, **quality)

    @property
    def takes_strength(self) -> bool:
        """Whether the model is told how much to do."""
        return takes_strength(self.generator)

    @property
    def at_home_live(self) -> Denoiser:
        """The model that streams: this one, or the other of the package."""
        return self._other or self

    def as_strength(self, strength: Any) -> float | None:
        """The number that a strength is; None where the model is told none. Raises InputError."""
        if strength is None:
            return BALANCED if self.takes_strength else None
        if not self.takes_strength:
            raise InputError(
                "strength",
                "this model takes none",
                "leave it out, or keep some of the input with mix",
            )
        if isinstance(strength, str) and strength in STRENGTHS:
            return STRENGTHS[strength]
        number = isinstance(strength, Real) and not isinstance(strength, bool)
        if not (number and 0.0 <= float(strength) <= 1.0):
            raise InputError(
                "strength", f"expected {', '.join(STRENGTHS)}, or 0 to 1, found {strength!r}"
            )
        return float(strength)

    @property
    def streams(self) -> bool:
        """Whether the generator is causal, with a stated latency: then `stream` works."""
        return self._other is not None or streams(self.generator)

    @property
    def live_note(self) -> str | None:
        """What is to be known of live use: why it does without a graph that is there."""
        if self._other is not None:
            return self._other.live_note
        return self._beside.note if self._beside else None

    @property
    def live_generator(self) -> Steps:
        """The generator that works hop by hop, as a graph in onnxruntime where there is one.

        Raises InputError for a generator that cannot work so, and for a graph of another model,
        OSError for a graph that cannot be read.
        """
        if self._other is not None:
            return self._other.live_generator
        if not streams(self.generator):
            raise InputError(
                "this model looks into the future and cannot stream",
                remedy="take live, which is in the package, or train the experiment stream, say",
            )
        if self._live is None:
            graph = self._beside.open(self.generator) if self._beside else None
            self._live = graph or self.generator
        return self._live

    def stream(
        self,
        sample_rate: int | None = None,
        channels: int = 1,
        *,
        mix: float = 1.0,
        high_band: str | None = None,
        strength: float | str | None = None,
    ) -> Live:
        """A live stream: `push(samples (n, channels))` returns what is finished.

        `flush()` returns the rest. `strength` may be set meanwhile. `latency_s` is how far the
        output is behind. See gan_denoise/signal/streaming.py.

        sample_rate: Hz of input and output (None: the model's). mix, high_band, strength: as of
        `blocks`, but without "keep". Channels are enhanced one by one. Raises InputError for a
        model that does not stream, and for other values of these.
        """
        generator, model = self.live_generator, self.at_home_live
        told = model.as_strength(strength)
        check_channels(channels)
        mix = as_mix(mix)
        outside, inside = (
            self.sample_rate if sample_rate is None else as_rate(sample_rate),
            self.sample_rate,
        )
        if high_band == "keep":
            raise InputError("high_band", "a live stream keeps none", 'say "model" or "drop"')
        stream = Stream(generator, channels, inside, told)
        waits_s = behind_s(outside, inside) + behind_s(inside, outside)
        latency_s = generator.latency / inside + waits_s
        ends = model.ends(outside, channels, told, high_band)
        enhanced: Stage = Around(ends, stream)
        if mix < 1.0:
            enhanced = Mixed((mix, enhanced), (1.0 - mix, Wire(channels)))
        return Live(enhanced, channels, [stream, ends], model.as_strength, latency_s)


def _check_word(name: str, word: str | None, words: tuple[str | None, ...]) -> None:
    """Raises InputError for a word that is none of these."""
    if word not in words:
        near = nearest(str(word), [other for other in words if other])
        raise InputError(name, f"unknown value {word!r}{near}")


def as_mix(mix: Any) -> float:
    """The share of the enhanced signal, of any type of number. Raises InputError for no share."""
    number = isinstance(mix, Real) and not isinstance(mix, bool)
    if not (number and 0.0 <= float(mix) <= 1.0):
        raise InputError(
            "mix", f"expected a number from 0 (input only) to 1 (enhanced only), found {mix!r}"
        )
    return float(mix)


def _check_model(model_dir: Any, device: Any) -> None:
    """Raises InputError for what can be no model, or no device, by its type."""
    if model_dir is not None and not isinstance(model_dir, (str, os.PathLike)):
        raise InputError(
            f"model {model_dir!r}",
            "expected a model directory or a name",
            "name one, or none for the models in the package",
        )
    if model_dir is not None and not str(model_dir):
        raise InputError(
            'model ""',
            "an empty name",
            "name a model directory, or none for the models in the package",
        )
    if not isinstance(device, (str, torch.device)):
        raise InputError(f"device {device!r}", "expected a name", "say cpu, cuda, cuda:1 or mps")


def mix_for_limit(limit_db: float) -> float:
    """The mix that lowers noise by so many dB at most.

    With it, 10 ** (-limit_db / 20) of the input stays.
    """
    return 1.0 - 10.0 ** (-limit_db / 20.0)


def _block_frames(channels: int) -> int:
    return max(1, _BLOCK_SAMPLES // channels)


def _finite(samples: np.ndarray) -> np.ndarray:
    if not np.isfinite(samples).all():
        raise InputError(
            "the model's output is not finite", remedy="train it again, with a lower learning rate"
        )
    return samples


def enhance_file(
    denoiser: Denoiser,
    source: Path,
    target: Path,
    *,
    mix: float = 1.0,
    high_band: str | None = None,
    strength: float | str | None = None,
    stereo: str = "linked",
    subtype: str | None = None,
    watch: Callable[[Iterator[np.ndarray], int], Iterator[np.ndarray]] | None = None,
) -> list[str]:
    """Enhance one file into another of the same rate, length and channels.

    The subtype stays the same where the target's container has it.

    mix, high_band, strength, stereo: see `Denoiser.blocks`. subtype: another one, in libsndfile's
    words, as "PCM_24". watch: gets the blocks that are read and their number, and passes the blocks
    on. Returns what the user should know of the result, one line each: another subtype, samples
    that were clipped at full scale. Raises InputError for bad input, OSError where the target
    cannot be written.
    """
    with audio.Reader(source) as reader, Writer(target, like=reader, subtype=subtype) as writer:
        size = _block_frames(reader.channels)
        wave = reader.blocks(size)
        if watch:
            wave = watch(wave, -(-reader.frames // size))
        options: Any = {"mix": mix, "high_band": high_band, "strength": strength, "stereo": stereo}
        for samples in denoiser.blocks(wave, reader.sample_rate, reader.channels, **options):
            writer.write(samples)
    return writer.notes
