"""A model's step as the ONNX graph beside its weights, for live use.

Live use runs the graph where onnxruntime is installed, in an eighth of the time that torch takes
for one hop; most of torch's time passes between operations.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_denoise.contract import StreamingGenerator
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import file_digest

NAME = "model.stream.onnx"  # as `gan-denoise export MODEL MODEL/model.onnx` names it
_RUNTIME = (1, 18)  # the oldest onnxruntime of the extra onnx
_HOPS_AT_ONCE = 64  # onnxruntime keeps the memory that its longest step took


def session(content: bytes) -> Any:
    """Open a graph in onnxruntime, on one thread of the CPU.

    Raises onnxruntime's errors for what is no graph.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    # A hop is too little to share, and further threads wait busily
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_reuse = False  # a hop takes 3 % less
    options.log_severity_level = 3  # errors: standard error is the caller's
    return InferenceSession(content, options, ["CPUExecutionProvider"])


class Graph:
    """A generator's step as a graph in onnxruntime, with its state in NumPy arrays.

    A hop is too short to convert the state to tensors. generator: the generator that the graph was
    made from. content: the graph. Copies and other processes open it anew. Raises what onnxruntime
    raises where it cannot open it.
    """

    def __init__(self, generator: StreamingGenerator, content: bytes):
        self._content = content
        self._first = {name: tensor.numpy() for name, tensor in generator.initial_state().items()}
        self.hop_length, self.latency = generator.hop_length, generator.latency
        self._open()

    def _open(self) -> None:
        # By process: a fork inherits locks of threads that do not exist in it
        self._sessions = {os.getpid(): session(self._content)}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_sessions": {}}

    @property
    def about(self) -> Mapping[str, str]:
        """The graph's metadata; gan_denoise/export.py writes it."""
        return self._session.get_modelmeta().custom_metadata_map

    @property
    def _session(self) -> Any:
        if os.getpid() not in self._sessions:
            inherited = self._sessions
            self._open()
            self._sessions |= inherited  # kept, since closing it here could wait for ever
        return self._sessions[os.getpid()]

    def initial_state(self, batch: int = 1) -> dict[str, np.ndarray]:
        """As StreamingGenerator.initial_state."""
        return {name: np.repeat(first, batch, axis=0) for name, first in self._first.items()}

    def step(
        self, noisy: Tensor, state: dict[str, np.ndarray]
    ) -> tuple[Tensor, dict[str, np.ndarray]]:
        """As StreamingGenerator.step."""
        run, wave, pieces = self._session.run, noisy.numpy(), []
        at_once = _HOPS_AT_ONCE * self.hop_length
        for start in range(0, wave.shape[1], at_once):
            piece, *after = run(None, {"noisy": wave[:, start : start + at_once], **state})
            pieces.append(piece)
            state = dict(zip(state, after, strict=True))
        enhanced = np.concatenate(pieces, axis=1) if len(pieces) > 1 else pieces[0]
        return torch.from_numpy(enhanced), state


class Beside:
    """The place of a model directory's graph, and the metadata that it must have.

    The metadata is taken when the weights are loaded, and compared when the model is used live.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]):
        self._path = folder.absolute() / NAME
        self._expected = identity(folder, config)
        self.note: str | None = None  # why live use does without a graph that is there

    def open(self, generator: StreamingGenerator) -> Graph | None:
        """The graph, or None without a graph or onnxruntime, and where onnxruntime is too old.

        In the last case `note` says so. Raises InputError for a graph of another model, and for
        what is no graph; OSError where it cannot be read.
        """
        if not self._path.is_file():
            return None
        try:
            import onnxruntime
        except ImportError:
            return None
        content, folder = self._path.read_bytes(), self._path.parent
        names = shlex.quote(str(folder)), shlex.quote(str(folder / "model.onnx"))
        remedy = f"remove it, or write it anew: gan-denoise export --overwrite {' '.join(names)}"
        try:
            graph = Graph(generator, content)
        except Exception as error:  # of onnxruntime's types, which have no base of their own
            reason = str(error).strip().splitlines()[0]
            if _version(onnxruntime.__version__) < _RUNTIME:
                self.note = (
                    f"onnxruntime {onnxruntime.__version__} is too old for {self._path.name}: torch"
                    f" works instead, and takes longer: install {'.'.join(map(str, _RUNTIME))}"
                )
                return None
            raise InputError(
                self._path,
                f"onnxruntime {onnxruntime.__version__} cannot open it ({reason})",
                remedy,
            ) from error
        if any(graph.about.get(key) != value for key, value in self._expected.items()):
            raise InputError(self._path, "belongs to another model than the weights", remedy)
        return graph


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def identity(folder: str | Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The metadata that tells the graph of a model directory from others."""
    return {
        "weights": str(file_digest(Path(folder) / "model.safetensors")),
        "generator": json.dumps(config["generator"]),
        "sample_rate": str(config["sample_rate"]),
    }
