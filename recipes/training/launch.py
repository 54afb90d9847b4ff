"""The processes of a run: as many as were launched, with the experiment's settings and no others.

accelerate also listens to environment variables and to a configuration file of its launcher, which
may be another machine's. A setting there that would change the result has no effect here, or is
refused.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from gan_denoise.errors import InputError

# Variables that switch on ways of sharing work that this training lacks, and the harmless one
_SWITCH, _HARMLESS = "ACCELERATE_USE_", {"ACCELERATE_USE_CPU"}
_RANKS = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
# Variables by which torchrun (which accelerate uses) and the launchers of MPI mark their processes
_LAUNCHED = ("TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
# glibc's malloc.h: a block of at least M_MMAP_THRESHOLD bytes is mapped (32 MB is the maximum),
# free memory beyond M_TRIM_THRESHOLD goes back to the system, and the heap grows by M_TOP_PAD or
# more
_MALLOC = {
    "M_MMAP_THRESHOLD": (-3, 2**25),
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),
    "M_TOP_PAD": (-2, 2**26),
}


def check_environment(environment: Mapping[str, str]) -> int:
    """The number of processes that were launched.

    Raises InputError for what this training cannot do, and for ranks that no launcher has set,
    since the process would wait for others that never come.
    """
    for name, value in sorted(environment.items()):
        if (
            name.startswith(_SWITCH)
            and name not in _HARMLESS
            and value.lower() in ("true", "1", "yes")
        ):
            raise InputError(
                f"{name}={value}: this training does not know {name.removeprefix(_SWITCH)}: unset"
                " it, or launch with another --config_file"
            )
    size = environment.get("WORLD_SIZE", "1")
    if not size.isdigit() or int(size) < 1:
        raise InputError(f"WORLD_SIZE={size}: is not a number of processes: unset it")
    left_over = [name for name in _RANKS if environment.get(name, "0") not in ("0", "1", "-1")] or (
        ["WORLD_SIZE"] if int(size) > 1 else []
    )
    if left_over and not any(name in environment for name in _LAUNCHED):
        raise InputError(
            f"{left_over[0]}={environment[left_over[0]]}: no launcher has started this process:"
            f" unset {' '.join(_RANKS)}, or start it by accelerate launch"
        )
    return int(size)


def keep_freed_memory() -> None:
    """Let malloc keep freed memory, where it is glibc's.

    Every update asks for the same blocks again, and the system would clear each block that it gives
    anew.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter, value in _MALLOC.values():
            library.mallopt(parameter, value)


def build_accelerator(mixed_precision: str, trackers: list[str]) -> Accelerator:
    """The Accelerator of this process.

    Raises InputError where the processes that were launched do not find each other.
    """
    keep_freed_memory()
    size = check_environment(os.environ)
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        log_with=trackers or None,
        # These two replace what the environment says
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_backend="no",
    )
    if accelerator.num_processes != size:
        raise InputError(
            f"{size} processes were launched (WORLD_SIZE), accelerate made"
            f" {accelerator.num_processes} of them: without a GPU for each, launch one, or set"
            " ACCELERATE_USE_CPU=true"
        )
    return accelerator
