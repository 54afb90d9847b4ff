"""Bodies of requests into private files, which are gone afterwards, even after a kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import errno
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
from gan_denoise.serve import log
from gan_denoise.serve.limits import Refused

_WRITTEN_AT_ONCE = 2**20  # bytes
_PARSED_AT_ONCE = 2**13  # bytes of a form, which may take long
_MOST_PARTS = 100  # of a form, one of which is the file
_FIELD = b"file"


class PrivateFolder:
    """A folder that nobody else can read, gone at the end; those of dead processes are removed.

    Each lies in a folder of this user in TMPDIR. It is locked, which tells the living from the
    dead, and tells systemd-tmpfiles to leave it alone. `check` makes it again where somebody has
    cleaned it away. Raises InputError where somebody else has that name, OSError where there can
    be none.
    """

    def __init__(self) -> None:
        self.path, self._held = Path(), contextlib.ExitStack()

    def __enter__(self) -> PrivateFolder:
        home = Path(tempfile.gettempdir()) / f"gan_denoise-serve-{os.getuid()}"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = home.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
            raise InputError(home, "is not this user's alone", "remove it, or set TMPDIR")
        with _locked(home):  # or another server might take a new folder for a dead one's
            for old in home.iterdir():
                with contextlib.suppress(OSError), _locked(old, fcntl.LOCK_NB):
                    shutil.rmtree(old, ignore_errors=True)
            self.path = Path(tempfile.mkdtemp(dir=home))
            self._held.callback(shutil.rmtree, self.path, ignore_errors=True)
            self._lock = self._held.enter_context(_locked(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def check(self) -> None:
        """See that files can be stored. Raises as above, and OSError for a full disk."""
        try:
            there = os.path.samestat(self.path.stat(), os.fstat(self._lock))
        except OSError:
            there = False
        if not there:
            self._held.close()
            self.__enter__()
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path))
        if not os.statvfs(self.path).f_bavail:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[int]:
    """An open folder. Raises OSError where it cannot be locked now, with fcntl.LOCK_NB."""
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | how)
        yield handle
    finally:
        os.close(handle)


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
    too_large = f"larger than {limit / 2**20:g} MiB, the limit of this server"
    length = request.headers.get("content-length", "")
    if (
        length.isdigit() and int(length) > limit + 2**16
    ):  # a form has lines of its own around the file
        raise Refused(413, InputError(name, too_large))
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = Form(options.get(b"boundary"), name) if kind == b"multipart/form-data" else None
    entry, size, waiting = log.entry_of(request.scope), 0, bytearray()
    try:
        with open(path, "xb") as file:
            async for content in _pieces(request):
                waiting += await form.take(content) if form else content
                if form:
                    entry.file = name = form.name
                if size + len(waiting) > limit:
                    raise Refused(413, InputError(name, too_large))
                if len(waiting) >= _WRITTEN_AT_ONCE or not content:
                    await asyncio.to_thread(file.write, waiting)
                    size, waiting = size + len(waiting), bytearray()
    except OSError as error:
        raise Refused(503, f"the server cannot store the file ({error.strerror})") from error
    if form:
        form.finish()
    if not size:
        raise Refused(400, InputError(name, "is empty (0 bytes)"))
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
        self.name, self._found, self._inside, self._complete = name, False, False, False
        self._header, self._value, self._parts = b"", b"", 0
        self._first = b"--" + boundary
        self._before: bytes | None = b"\r\n"  # None: the parts have begun
        self._headers: dict[bytes, bytes] = {}
        self._content = bytearray()
        callbacks: Any = {key: getattr(self, key) for key in dir(self) if key.startswith("on_")}
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise Refused(400, "the form's boundary is not valid") from error

    async def take(self, content: bytes) -> bytearray:
        """A piece of the form -> what it holds of the file. Others have their turn meanwhile."""
        content = self._behind_preamble(content)
        try:
            for start in range(0, len(content), _PARSED_AT_ONCE):
                self._parser.write(content[start : start + _PARSED_AT_ONCE])
                await asyncio.sleep(0)
        except FormParserError as error:
            raise Refused(400, "the form is malformed") from error
        taken, self._content = self._content, bytearray()
        return taken

    def _behind_preamble(self, content: bytes) -> bytes:
        """Without what precedes the first boundary, which means nothing (RFC 2046, 5.1.1)."""
        if self._before is None:
            return content
        content = self._before + content
        at = content.find(b"\r\n" + self._first)
        if at < 0:
            self._before = content[-len(self._first) - 1 :]
            return b""
        self._before = None
        return content[at + 2 :]

    def finish(self) -> None:
        """Raises Refused for a form that ends early or has no file."""
        if self._before is not None:
            raise Refused(400, "the form does not hold the boundary of its Content-Type")
        if not self._complete:
            raise Refused(400, "the form is cut short")
        if not self._found:
            raise Refused(400, f"the form has no field {_FIELD.decode()!r}")

    def on_part_begin(self) -> None:
        self._headers = {}
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise Refused(400, f"the form has more than {_MOST_PARTS} fields")

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
            self.name = (
                plain_name(options.get(b"filename", b"").decode("utf-8", "replace")) or self.name
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
