"""Files that are either whole or absent: every output of the project goes through `writing` or `write_atomically`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def writing(path: str | Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A binary file to write into, which becomes `path` when the block ends, and is gone when it raises.

    A reader, a kill or a full disk never leaves half of it. The folder is made. durable: survive a power failure too (waits
    for the disk). Raises OSError, and leaves an old file of that name untouched.
    """
    path, partial = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp makes private files
        os.replace(partial, path)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(".part"):
            error.filename = str(path)  # the user knows this name, not the temporary one
        raise
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)


def write_atomically(path: str | Path, content: bytes | memoryview | str, *, durable: bool = False) -> None:
    """`writing` at once. content: bytes or text (UTF-8). Raises OSError."""
    with writing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
