"""Models as ONNX graphs, which are checked before they appear.

One graph takes whole signals. A model that streams also gets the graph of a step, whose state is an
input and an output.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import gan_denoise
from gan_denoise.checkpoint import load_model
from gan_denoise.contract import Generator, StreamingGenerator, streams, takes_strength
from gan_denoise.errors import InputError
from gan_denoise.generators import ahead
from gan_denoise.graph import identity, session
from gan_denoise.signal.stft import STFT, StreamingSTFT
from gan_denoise.system.files import write_atomically

_STRENGTH = "strength"  # an input of both graphs; that of whole signals has a default
_TORCH = (2, 13)  # the oldest whose exporter was tried; that of 2.6 fails
_IR, _OPSET = 8, 18  # of ONNX: the lowest that hold the graphs, for old runtimes
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TOLERANCE = 1e-4  # between onnxruntime and torch, for signals within full scale


class Whole(nn.Module):
    """noisy (batch, samples) -> enhanced (batch, samples), at a strength (batch, 1)."""

    generator: Generator

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, noisy: Tensor, strength: Tensor | None = None) -> Tensor:
        told = () if strength is None else (strength[:, 0],)
        return self.generator(noisy[:, None], *told)[:, 0]


class Step(nn.Module):
    """A step of a streaming generator, with its state as inputs and outputs.

    noisy (batch, samples), a whole number of hops, and the state -> enhanced, which is latency -
    hop_length samples behind, and the next state.
    """

    generator: StreamingGenerator

    def __init__(self, generator: StreamingGenerator):
        super().__init__()
        self.generator, self.names = generator, list(generator.initial_state())

    def forward(self, noisy: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        enhanced, after = self.generator.step(noisy, dict(zip(self.names, state, strict=True)))
        return enhanced, *(after[name] for name in self.names)


def export(folder: str | Path, path: str | Path, *, overwrite: bool = False) -> Iterator[str]:
    """Write a model directory as OUT.onnx and, where it streams, as OUT.stream.onnx.

    Yields a line about each file.

    Inputs and outputs have dynamic batch and length. The graph of `ahead` is of one window, with
    its frames in one place, since the number of windows depends on the length. metadata_props holds
    sample_rate, hop_length, latency, receptive_field, the state's shapes, licence, procedure (its
    fingerprint), the generator and the digest of its weights. Raises InputError for what is no
    model, a file that exists, a generator that has no ONNX form, and a graph that differs from
    torch by more than TOLERANCE; then nothing is written.
    """
    path = Path(path)
    if path.suffix != ".onnx" or path.name.endswith(".stream.onnx"):
        raise InputError(
            path,
            "is not a name for the graph of whole signals",
            f"name it {path.with_suffix('').with_suffix('.onnx').name}",
        )
    generator, config = load_model(folder)
    config |= {"identity": identity(folder, config)}
    targets = [path, path.with_suffix(".stream.onnx")] if streams(generator) else [path]
    for target in targets:
        if target.exists() and not overwrite:
            raise InputError(target, "exists", "choose another name, or give --overwrite")
    if tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) < _TORCH:
        raise InputError(
            f"export needs torch {'.'.join(map(str, _TORCH))}, found {torch.__version__}",
            remedy='in gan_denoise\'s folder, pip install ".[onnx]"',
        )
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"export needs more packages ({error.name})",
            remedy='in gan_denoise\'s folder, pip install ".[onnx]"',
        ) from error
    plain = _plain(load_model(folder)[0])
    references: list[Whole | Step] = [Whole(generator)]
    if isinstance(generator, ahead.Generator) and isinstance(plain, ahead.Generator):
        step = _graph(Step(plain.network), config)
        graphs, references = [_whole(step, plain.network, config)], [Whole(generator.network)]
    elif streams(plain) and streams(generator):
        step = _graph(Step(plain), config)
        graphs, references = [_whole(step, plain, config), step], [*references, Step(generator)]
    else:
        graphs = [_graph(Whole(plain), config)]
    differs = [_check(*both) for both in zip(graphs, references, strict=True)]
    for target, graph, largest in zip(targets, graphs, differs, strict=True):
        write_atomically(target, graph)
        yield f"{target}: {len(graph) / 2**20:.1f} MiB, differs from torch by at most {largest:.1e}"


def _plain(generator: Generator) -> Generator:
    """Turn weights into plain tensors, and every STFT into sums of products.

    This works on the generator itself: a deep copy would share the classes that weight norm makes.
    """
    for module in [module for module in generator.modules() if parametrize.is_parametrized(module)]:
        for name in [name for name, _ in module.get_submodule("parametrizations").named_children()]:
            parametrize.remove_parametrizations(module, name)
    for parent in list(generator.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (STFT, StreamingSTFT)):
                setattr(parent, name, child.exported())
    return generator.requires_grad_(False)


def _graph(module: Whole | Step, config: dict) -> bytes:
    dynamic, metadata = torch.export.Dim.DYNAMIC, _metadata(module.generator, config)
    hop = module.generator.hop_length
    example: tuple[Tensor, ...]
    shapes: dict[str, Any] = {"noisy": {0: dynamic, 1: dynamic}}
    if isinstance(module, Step):
        state = module.generator.initial_state(2)
        example = (torch.zeros(2, 3 * hop), *state.values())
        shapes["state"] = tuple({0: dynamic} for _ in state)
        names = [["noisy", *state], ["enhanced", *(f"{name}_after" for name in state)]]
        metadata["state"] = json.dumps(
            {name: ["batch", *tensor.shape[1:]] for name, tensor in state.items()}
        )
    else:
        example, names = (torch.zeros(2, 8 * hop + 1),), [["noisy"], ["enhanced"]]
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=names[0],
                output_names=names[1],
                opset_version=_OPSET,
                verbose=False,
                custom_translation_table={torch.ops.aten.lstm.input: _lstm},
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = _COLOURS.sub("", str(error)).strip().splitlines()[0]
        raise InputError(
            f"generator {config['generator']['name']}", f"has no ONNX form ({reason})"
        ) from error
    assert program is not None  # since dynamo exports it
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, with the paths of whoever exports
        # torch's idea of an LSTM's memory has one axis too many, and so has what is made of it
        sources = [node, *(value.producer() for value in node.inputs if value is not None)]
        if any(source is not None and source.op_type == "LSTM" for source in sources):
            for value in node.outputs:
                value.shape = None
    _constant_shapes(program.model)
    for value in [*program.model.graph.inputs, *program.model.graph.outputs]:
        assert value.shape is not None
        fixed = [size if isinstance(size, int) else "samples" for size in value.shape[1:]]
        value.shape = type(value.shape)(["batch", *fixed])
    program.model.metadata_props.update(metadata)
    program.model.ir_version = _IR
    graph = io.BytesIO()
    saved: Any = program  # whose stub knows paths alone
    saved.save(graph)
    return graph.getvalue()


def _constant_shapes(model: Any) -> None:
    """Reshape to sizes that stand in the graph: 0 for one that stays, -1 for one more.

    Without this, nodes of the exporter work the sizes out anew at every hop.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    for node in model.graph:
        if node.op_type != "Reshape" or node.inputs[1].const_value is not None:
            continue
        before, after = (value.shape or () for value in (node.inputs[0], node.outputs[0]))
        sizes = [
            size if isinstance(size, int) else 0 if size.value and size == other else -1
            for size, other in itertools.zip_longest(after, before[: len(after)])
        ]
        if sizes and sizes.count(-1) < 2:
            name = f"{node.outputs[0].name}_sizes"
            value = ir.Value(name=name, const_value=ir.tensor(sizes, name=name))
            model.graph.initializers[name] = value
            node.replace_input_with(1, value)
            node.attributes.pop("allowzero", None)
    RemoveUnusedNodesPass()(model)


def _whole(step: bytes, generator: StreamingGenerator, config: dict) -> bytes:
    """The graph of whole signals around the graph of a step, as in StreamingGenerator.forward.

    It is built from the step's graph because the exporter takes ten seconds for each graph that it
    makes.
    """
    from onnx import compose, helper, load_from_string, numpy_helper

    model, node = compose.add_prefix(load_from_string(step), "step_"), helper.make_node
    graph, hop = model.graph, generator.hop_length
    delay = generator.latency - hop
    constants: dict[str, Any] = {"delay": [delay], "hop": [hop], "time": [1], "before": [0, 0, 0]}
    before = [
        node("Shape", ["noisy"], ["batch"], start=0, end=1),
        node("Shape", ["noisy"], ["length"], start=1, end=2),
        node("Add", ["length", "delay"], ["late"]),
        node("Neg", ["late"], ["missing"]),
        node("Mod", ["missing", "hop"], ["rest"]),
        node("Add", ["delay", "rest"], ["behind"]),
        node("Concat", ["before", "behind"], ["pads"], axis=0),
        node("Pad", ["noisy", "pads"], ["step_noisy"]),
    ]
    for number, (name, first) in enumerate(generator.initial_state().items()):
        start = _STRENGTH if name == _STRENGTH else f"first{number}"
        constants |= {start: first.numpy(), f"sizes{number}": first.shape[1:]}
        sizes, shape = ["batch", f"sizes{number}"], f"shape{number}"
        before.append(node("Concat", sizes, [shape], axis=0))
        before.append(node("Expand", [start, shape], [f"step_{name}"]))
    after = node("Slice", ["step_enhanced", "delay", "late", "time"], ["enhanced"])
    for name, value in constants.items():
        array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(array, name))
    ends = [
        helper.make_tensor_value_info(name, 1, ["batch", "samples"])  # 1: float32
        for name in ("noisy", "enhanced")
    ]
    told = [helper.make_tensor_value_info(_STRENGTH, 1, ["strengths", 1])] * (
        _STRENGTH in constants
    )
    inputs = [ends[0], *told]
    parts = {"node": [*before, *graph.node, after], "input": inputs, "output": ends[1:]}
    for field, values in parts.items():
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    model.ClearField("metadata_props")
    helper.set_model_props(model, _metadata(generator, config))
    return model.SerializeToString()


# The exporter takes annotations for types of ONNX
def _lstm(  # type: ignore[no-untyped-def]
    wave, memory, weights, has_biases, layers, dropout, train, both_ways, batch_first
):
    """torch.nn.LSTM in ONNX, without the dozen nodes around it that are the exporter's own."""
    from onnxscript import opset18

    op: Any = opset18  # whose types know no lists of Python
    if layers != 1 or both_ways or batch_first or not has_biases:
        raise NotImplementedError("an LSTM that has not one layer, one direction and biases")
    size = memory[0].shape[2]
    gates = [gate * size + unit for gate in (0, 3, 1, 2) for unit in range(size)]  # ONNX's order
    order = op.Constant(value_ints=gates)
    kernel, recurrent, *biases = (op.Gather(weight, order, axis=0) for weight in weights)
    joined = (kernel, recurrent, op.Concat(*biases, axis=0))
    parts = (op.Unsqueeze(part, [0]) for part in joined)
    hidden, *memory = op.LSTM(wave, *parts, None, *memory, hidden_size=size)
    return op.Squeeze(hidden, [1]), *memory


def _metadata(generator: Generator, config: dict) -> dict[str, str]:
    return {
        **config["identity"],
        "hop_length": str(generator.hop_length),
        "latency": str(getattr(generator, "latency", "")),
        "receptive_field": str(generator.receptive_field),
        "licence": config.get("licence", "not stated: that of whoever trained it"),
        "procedure": config.get("noise", ""),
        "made_by": f"gan_denoise {gan_denoise.__version__}",
    }


def _check(graph: bytes, reference: Whole | Step) -> float:
    """The largest difference from torch over several lengths, 1 and whole hops among them.

    Raises InputError beyond TOLERANCE.
    """
    run = session(graph).run
    draw, hop, differs = torch.Generator().manual_seed(0), reference.generator.hop_length, 0.0
    lengths = [1, hop - 1, hop, hop + 1, 40 * hop + 7]
    if isinstance(reference, Step):
        lengths = [hop, 2 * hop, 40 * hop]
    for batch in (1, 2):
        told = (
            torch.linspace(0.2, 1.0, batch)[:, None]
            if takes_strength(reference.generator)
            else None
        )
        state = reference.generator.initial_state(batch) if isinstance(reference, Step) else {}
        if told is not None and state:
            state[_STRENGTH] = told
        own_state = {name: tensor.numpy() for name, tensor in state.items()}
        inputs = {_STRENGTH: told.numpy()} if told is not None else {}
        for length in lengths:
            noisy = 0.1 * torch.rand(batch, max(1, length), generator=draw) - 0.05
            noisy = noisy + _voice(noisy.shape[-1], reference.generator)  # or nothing is left of it
            noisy[:, length // 4 : length // 2] = 0.0  # digital silence too
            theirs, *after = run(None, {"noisy": noisy.numpy(), **inputs, **own_state})
            own_state = dict(zip(own_state, after, strict=True))
            with torch.inference_mode():
                if isinstance(reference, Step):
                    ours, *moved = reference(noisy, *state.values())
                    state = dict(zip(state, moved, strict=True))
                else:
                    ours = reference(noisy, told)
            # NaN stays NaN
            differs = float(np.maximum(differs, np.abs(theirs - ours.numpy()).max()))
    if not differs <= TOLERANCE:
        raise InputError(
            f"the ONNX graph differs from torch by {differs:.1e}, allowed are {TOLERANCE:.0e}:"
            " not written"
        )
    return differs


def _voice(length: int, generator: Any) -> Tensor:
    """(T,) harmonics that come and go as syllables do: what a denoiser does not take for noise."""
    time = torch.arange(length) / generator.hop_length  # hops of 8 to 24 ms: some 100 to 300 Hz
    pitch = torch.cumsum(2.0 + torch.sin(0.2 * time), dim=0) / generator.hop_length
    tones = sum(torch.sin(2.0 * torch.pi * number * pitch) / number for number in range(1, 12))
    return 0.1 * tones * torch.sin(0.3 * time).clamp_min(0.0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
