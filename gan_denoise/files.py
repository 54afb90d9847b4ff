"""Files that are either whole or absent: every output of the project goes through `write_atomically`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | Path, content: bytes | memoryview | str, *, durable: bool = False) -> None:
    """Write a file so that a reader, a kill or a full disk never leaves half of it.

    content: bytes or text (UTF-8). The folder is made. durable: survive a power failure too (waits for the disk).
    Raises OSError, and leaves an old file of that name untouched.
    """
    path, partial = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())  # mkstemp makes private files
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # the user knows this name, not the temporary one
        raise
    finally:
        if partial:
            Path(partial).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
