"""A model's step as the ONNX graph beside its weights. Live use runs it where onnxruntime is
installed, in an eighth of the time that torch takes for one hop, most of it between operations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_denoise.contract import State, StreamingGenerator
from gan_denoise.errors import InputError
from gan_denoise.provenance import file_digest

NAME = "model.stream.onnx"  # as `gan-denoise export MODEL MODEL/model.onnx` names it


class GraphGenerator(StreamingGenerator):
    """A generator whose step is a graph in onnxruntime, on one thread of the CPU.

    generator: whose graph it is. session: onnxruntime's.
    """

    def __init__(self, generator: StreamingGenerator, session: Any):
        super().__init__()
        self._session, self._first = session, generator.initial_state()
        self.hop_length, self.latency = generator.hop_length, generator.latency

    def initial_state(self, batch: int = 1) -> State:
        return {
            name: tensor.expand(batch, *tensor.shape[1:]).clone()
            for name, tensor in self._first.items()
        }

    def step(self, noisy: Tensor, state: State) -> tuple[Tensor, State]:
        given = {name: tensor.numpy() for name, tensor in state.items()}
        enhanced, *after = self._session.run(None, {"noisy": noisy.numpy(), **given})
        moved = dict(zip(state, map(torch.from_numpy, after), strict=True))
        return torch.from_numpy(enhanced), moved


def beside(folder: Path, generator: StreamingGenerator) -> StreamingGenerator | None:
    """The graph in the model directory of this generator, None without one or onnxruntime. Raises
    InputError for a graph of another model.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a hop is too little to share
    options.log_severity_level = 3  # errors: standard error is the caller's
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        about = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's own types of errors have no common base
        raise InputError(
            f"{path}: is no ONNX graph: remove it, or export the model again"
        ) from error
    wanted = {
        "weights": file_digest(folder / "model.safetensors"),
        "hop_length": str(generator.hop_length),
        "latency": str(generator.latency),
    }
    if any(about.get(key) != value for key, value in wanted.items()):
        raise InputError(
            f"{path}: is of another model than the weights beside it: remove it, or write it anew"
            f" with `gan-denoise export --overwrite {folder} {folder / 'model.onnx'}`"
        )
    return GraphGenerator(generator, session)
