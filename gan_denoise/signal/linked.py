"""Several channels through one mask where they hold one sound, so that it keeps its place.

A model that works on channels one by one gives each another mask, and what is panned drifts towards
the louder side. Here the model's outputs decide, bin by bin, the one complex factor that fits all
channels best. As far as the outputs are coherent, each channel is its input times that factor, and
levels and phases between channels stay as they were. As far as they are not, each channel keeps its
own output: in an interview with a talker in each channel, one factor would mute whom the other's
noise covers.
"""

from __future__ import annotations

import numpy as np

from gan_denoise.signal.streaming import Stage

_WINDOW_S = 0.032
_KEPT = 0.9  # of the past from frame to frame, in what tells whether channels are alike
_MOST = 4.0  # of the factor's magnitude, where there is nearly no input


class Linked:
    """A stage around a model's, with the same factors for all channels.

    model: works on channels one by one. sample_rate: Hz of both.
    """

    def __init__(self, model: Stage, sample_rate: int, channels: int):
        self._model, self._channels = model, channels
        self._hop = round(sample_rate * _WINDOW_S / 2)
        # For analysis and synthesis; their product adds up to 1 at half a window's distance
        place = np.arange(2 * self._hop) / (2 * self._hop)
        self._window = np.sin(np.pi * place).astype(np.float32)[:, None]
        self._start()

    def _start(self) -> None:
        silence = np.zeros((self._hop, self._channels), dtype=np.float32)  # before the signal
        self._input, self._output, self._tail = silence, silence, silence
        self._cross = np.zeros((self._hop + 1, self._channels, self._channels), dtype=complex)
        self._received, self._emitted = 0, -self._hop  # the first frame begins before the signal

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) -> (m, channels): the hops that are finished by now."""
        self._received += len(samples)
        return self._take(samples, self._model.push(samples))

    def flush(self) -> np.ndarray:
        """The rest; then it starts anew."""
        silence = np.zeros((2 * self._hop, self._channels), dtype=np.float32)
        last = self._take(silence, np.concatenate([self._model.flush(), silence]))
        rest = last[: len(last) - (self._emitted - self._received)]
        self._start()
        return rest

    def _take(self, samples: np.ndarray, enhanced: np.ndarray) -> np.ndarray:
        self._input = np.concatenate([self._input, samples])
        self._output = np.concatenate([self._output, enhanced])
        pieces = [samples[:0]]
        while min(len(self._input), len(self._output)) >= 2 * self._hop:
            pieces.append(self._one_frame())
        early = max(0, -self._emitted)
        self._emitted += self._hop * (len(pieces) - 1)
        return np.concatenate(pieces)[early:]

    def _one_frame(self) -> np.ndarray:
        """The hop that the next frame finishes."""
        waves = self._input[: 2 * self._hop], self._output[: 2 * self._hop]
        before, after = (np.fft.rfft(wave * self._window, axis=0) for wave in waves)
        self._cross = (
            _KEPT * self._cross + (1.0 - _KEPT) * after[:, :, None] * after.conj()[:, None]
        )
        if (waves[0] == waves[0][:, :1]).all():  # equal channels need no common factor
            return self._finished(after[:, :1])
        power = (before.real**2 + before.imag**2).sum(axis=1, keepdims=True)
        factor = (after * before.conj()).sum(axis=1, keepdims=True) / np.maximum(power, 1e-20)
        factor *= np.minimum(1.0, _MOST / np.maximum(np.abs(factor), 1e-9))
        return self._finished(after + self._likeness() * (factor * before - after))

    def _likeness(self) -> np.ndarray:
        """How far the channels hold the same sound, from 0 to 1, by bin: (bins, 1)."""
        power = np.einsum("bcc->bc", self._cross).real
        scale = np.maximum(power[:, :, None] * power[:, None], 1e-30)
        squares = (np.abs(self._cross) ** 2 / scale).sum(axis=(1, 2))
        channels = self._channels
        return ((squares - channels) / (channels**2 - channels)).clip(0.0, 1.0)[:, None]

    def _finished(self, spectrum: np.ndarray) -> np.ndarray:
        frame = np.fft.irfft(spectrum, axis=0).astype(np.float32) * self._window
        frame = np.broadcast_to(frame, (len(frame), self._channels))
        finished, self._tail = self._tail + frame[: self._hop], frame[self._hop :]
        self._input, self._output = self._input[self._hop :], self._output[self._hop :]
        return finished
