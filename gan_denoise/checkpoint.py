"""Checkpoints and model directories: atomic, complete, and free of code.

exp/NAME/checkpoint.pt                            all that training needs to go on (tensors and
                                                  plain values only)
exp/NAME/model/{config.json, model.safetensors}   everything that inference needs
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from gan_denoise import generators
from gan_denoise.contract import Generator
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import content_digest
from gan_denoise.system.files import write_atomically


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a training state: nested dicts of tensors, numbers and strings.

    The old file stays until the new one is whole.
    """
    buffer = io.BytesIO()  # on a full disk torch.save into a file raises no OSError
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getbuffer(), durable=True)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read what `save_state` wrote, on the CPU.

    Refuses anything that would execute code. Raises InputError.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint: check the path") from error
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(
            f"{path}: is not a training state of this project (nothing in it was executed): remove"
            " it"
        ) from error


def weights_of(generator: nn.Module) -> bytes:
    """The content of model.safetensors for a generator."""
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()
    }
    return safetensors.torch.save(weights)


def save_model(folder: str | Path, generator: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a model directory.

    config: `generator` (name and sizes), `sample_rate`, and further facts for a reader. The weights
    come last, so a folder with weights is a whole model.
    """
    folder = Path(folder)
    content = weights_of(generator)
    facts = {**config, "weights": content_digest(content)}
    write_atomically(folder / "config.json", json.dumps(facts, indent=2) + "\n")
    write_atomically(folder / "model.safetensors", content, durable=True)


def load_model(folder: str | Path) -> tuple[Generator, dict[str, Any]]:
    """Read a model directory: the generator in evaluation mode on the CPU, and its config.

    Raises InputError.
    """
    folder = Path(folder)
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise InputError(
                f"{folder}: is not a model directory, {path.name} is missing: name one such as"
                " exp/l1/model"
            )
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        generator = generators.build(config["generator"], sample_rate=config["sample_rate"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{config_path}: is not a model configuration ({error}): fetch or train the model again"
        ) from error
    try:
        generator.load_state_dict(safetensors.torch.load_file(weights_path))
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{weights_path}: does not fit config.json ({reason}): fetch or train the model again"
        ) from error
    return generator.eval(), config


def initialise(
    generator: Generator, folder: str | Path, options: Mapping[str, Any], sample_rate: int
) -> set[str]:
    """Start from the weights of a model directory, and return the names of those that it held.

    options: `generator:` of the experiment. The directory must hold the same generator at the same
    rate, or the one that is its `network`, with weights of the same shapes. It may lack those that
    are `neutral`, and options that decide no shape, such as a hop or dropout, may differ. Raises
    InputError.
    """
    source, config = load_model(folder)
    same_kind = config["generator"]["name"] == options["name"]
    begun = generator if same_kind else getattr(generator, "network", None)
    theirs, ours = (
        {name: tensor.shape for name, tensor in model.state_dict().items()} if model else {}
        for model in (source, begun)
    )
    neutral = [name for name in ours if set(name.split(".")) & set(getattr(begun, "neutral", ()))]
    needed = {name: shape for name, shape in ours.items() if name in theirs or name not in neutral}
    if type(begun) is not type(source) or config["sample_rate"] != sample_rate or theirs != needed:
        raise InputError(
            f"init={folder}: holds {config['generator']} at {config['sample_rate']} Hz, needed:"
            f" {options} at {sample_rate} Hz"
        )
    begun.load_state_dict(source.state_dict(), strict=False)
    return {name if same_kind else f"network.{name}" for name in theirs}
