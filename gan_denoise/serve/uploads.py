"""Bodies of requests into private files, which are gone afterwards, even after a kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gan_denoise.errors import InputError
from gan_denoise.serve.limits import Refused

_WRITTEN_AT_ONCE = 2**20  # bytes
_FIELD = b"file"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that nobody else can read, gone at the end; those of dead processes are removed.

    Each lies in a folder of this user in TMPDIR and holds a locked file, which tells the living
    from the dead. Raises InputError where somebody else has that name.
    """
    home = Path(tempfile.gettempdir()) / f"gan_denoise-serve-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    about = home.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise InputError(f"{home}: is not this user's alone: remove it, or set TMPDIR")
    for old in home.iterdir():
        with contextlib.suppress(OSError), open(old / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=home))
    try:
        with open(folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Upload:
    """A body that was received. name: the client's. size: bytes."""

    path: Path
    name: str
    size: int


async def receive(request: Request, path: Path, *, name: str, limit: int) -> Upload:
    """The body, or the field `file` of a form, into `path`. limit: bytes.

    Raises Refused: 400 for a body that is empty, broken or no such form, 413 beyond the limit, 503
    where it cannot be stored.
    """
    too_large = Refused(413, f"{name}: larger than {limit / 2**20:g} MiB, the limit of this server")
    length = request.headers.get("content-length", "")
    if (
        length.isdigit() and int(length) > limit + 2**16
    ):  # a form has lines of its own around the file
        raise too_large
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = Form(options.get(b"boundary"), name) if kind == b"multipart/form-data" else None
    size, waiting = 0, bytearray()
    try:
        with open(path, "xb") as file:
            async for content in _pieces(request):
                waiting += form.take(content) if form else content
                if size + len(waiting) > limit:
                    raise too_large
                if len(waiting) >= _WRITTEN_AT_ONCE or not content:
                    await asyncio.to_thread(file.write, waiting)
                    size, waiting = size + len(waiting), bytearray()
    except OSError as error:
        raise Refused(503, f"the server cannot store the file ({error.strerror})") from error
    if form:
        name = form.finish()
    if not size:
        raise Refused(400, f"{name}: is empty (0 bytes)")
    return Upload(path, name, size)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """What request.stream gives, and an empty piece at the end."""
    async for content in request.stream():
        if content:
            yield content
    yield b""


class Form:
    """A form with one file in it, taken apart as it comes. name: until the form tells it."""

    def __init__(self, boundary: bytes | None, name: str):
        if not boundary:
            raise Refused(400, "the form has no boundary in its Content-Type")
        self._name, self._found, self._inside, self._complete = name, False, False, False
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._content = bytearray()
        callbacks: Any = {key: getattr(self, key) for key in dir(self) if key.startswith("on_")}
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise Refused(400, "the form's boundary is not valid") from error

    def take(self, content: bytes) -> bytearray:
        """A piece of the form -> what it holds of the file."""
        try:
            self._parser.write(content)
        except FormParserError as error:
            raise Refused(400, "the form is malformed") from error
        taken, self._content = self._content, bytearray()
        return taken

    def finish(self) -> str:
        """The file's name. Raises Refused for a form that ends early or has no file."""
        if not self._complete:
            raise Refused(400, "the form is cut short")
        if not self._found:
            raise Refused(400, f"the form has no field {_FIELD.decode()!r}")
        return self._name

    def on_part_begin(self) -> None:
        self._headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._inside = options.get(b"name") == _FIELD
        if self._inside and self._found:
            raise Refused(
                400, f"the form has several fields {_FIELD.decode()!r}: send one file a request"
            )
        if self._inside:
            self._found = True
            self._name = (
                plain_name(options.get(b"filename", b"").decode("utf-8", "replace")) or self._name
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._inside:
            self._content += data[start:end]

    def on_end(self) -> None:
        self._complete = True


def plain_name(name: str) -> str:
    """A client's file name, to be shown: its last part, printable, of at most 200 characters."""
    name = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in name if letter.isprintable() and letter != '"')[-200:]
