"""Standard input and output in place of a file, for programs that read and write recordings whole.

Audio formats need files that can be searched, so what comes and goes lies in TMPDIR meanwhile.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gan_denoise.errors import InputError

PIPE = Path("-")
INPUT, OUTPUT = "standard input", "standard output"


class Pipes:
    """The files that stand for the pipes of a command.

    source, target: temporary files, or the files that were named. called: path -> the name that
    people know.
    """

    def __init__(self, source: Path, target: Path, folder: Path):
        self._write = target == PIPE
        self.source = folder / "input" if source == PIPE else source
        self.target = folder / "output.wav" if self._write else target
        self.called = {str(folder / "input"): INPUT, str(folder / "output.wav"): OUTPUT}

    def send(self) -> None:
        """What was written, to standard output. Raises OSError."""
        if self._write and self.target.exists():
            with open(self.target, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@contextlib.contextmanager
def opened(sources: Sequence[Path], target: Path) -> Iterator[Pipes | None]:
    """The pipes of a command; None where neither IN nor OUT is `-`.

    Raises InputError where more than one file is asked for, and where standard input or output is a
    terminal, which holds no audio.
    """
    if PIPE not in (*sources, target):
        yield None
        return
    if len(sources) > 1 or sources[0].is_dir():
        raise InputError("-", "standard input and output hold one recording", "name one IN")
    for path, stream, name in ((sources[0], sys.stdin, INPUT), (target, sys.stdout, OUTPUT)):
        if path == PIPE and stream is None:
            raise InputError(name, "is closed", "pipe a recording in and out")
        if path == PIPE and stream.isatty():
            raise InputError(name, "is a terminal, not audio", "pipe a recording in and out")
    with tempfile.TemporaryDirectory(prefix="gan_denoise-") as folder:
        pipes = Pipes(sources[0], target, Path(folder))
        if sources[0] == PIPE:
            with open(pipes.source, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield pipes
        pipes.send()
