"""The download of VCTK: broken off, wrong, from the address that torchaudio has."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import local, one_error_line, speech_like, write


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A small VCTK archive on a server on loopback.

    The server can go on in the middle of a file, and can break off once.
    """
    corpus = tmp_path / "made"
    for speaker in ("p225", "p226", "p232"):
        for number in (1, 30):
            wave = speech_like(number, 0.5, 48000)
            write(
                corpus / f"wav48_silence_trimmed/{speaker}/{speaker}_{number:03d}_mic1.flac",
                wave,
                48000,
            )
    (tmp_path / "www").mkdir()
    archive = tmp_path / "www/VCTK-Corpus-0.92.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(corpus.rglob("*")):
            file.write(path, path.relative_to(corpus))

    class Handler(http.server.SimpleHTTPRequestHandler):
        break_off = True
        ranges: list = []

        def do_GET(self) -> None:
            content = archive.read_bytes()
            asked = self.headers.get("Range")
            self.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if Handler.break_off:
                Handler.break_off = False
                self.wfile.write(content[start : len(content) // 2])
                return
            self.wfile.write(content[start:])

        def log_message(self, *arguments: Any) -> None:
            pass

    served = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    )
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/{archive.name}", archive, Handler
    served.shutdown()


def test_a_broken_download_goes_on_and_a_wrong_checksum_is_refused(
    server: Any, tmp_path: Path
) -> None:
    url, archive, handler = server
    good = hashlib.sha256(archive.read_bytes()).hexdigest()

    def download(checksum: str, folder: str) -> subprocess.CompletedProcess:
        return local("download_vctk", "--url", url, "--checksum", checksum, tmp_path / folder)

    one_error_line(download(good, "vctk"), "closed early", "goes on where it stopped")
    result = download(good, "vctk")
    assert result.returncode == 0, result.stderr
    half = archive.stat().st_size // 2
    assert handler.ranges == [None, f"bytes={half}-"]
    assert (tmp_path / "vctk/wav48_silence_trimmed/p225/p225_030_mic1.flac").is_file()
    assert download(good, "vctk").returncode == 0 and len(handler.ranges) == 2  # there already
    one_error_line(download("0" * 32, "wrong"), "wrong checksum", "download it again")
    assert [path.name for path in (tmp_path / "wrong").iterdir()] == [".lock"]
    (tmp_path / "hand").mkdir()
    whole = archive.read_bytes()
    place = whole.index(b"p226_030_mic1") + 200
    (tmp_path / "hand" / archive.name).write_bytes(whole[:place] + b"damaged" + whole[place + 7 :])
    # Put there by hand
    one_error_line(download(good, "hand"), "hand/VCTK-Corpus-0.92.zip: wrong checksum", "remove it")
    damaged = hashlib.sha256((tmp_path / "hand" / archive.name).read_bytes()).hexdigest()
    one_error_line(download(damaged, "hand"), "is not a whole zip archive", "download it again")
    assert {path.name for path in (tmp_path / "hand").iterdir()} == {".lock", archive.name}


def test_the_address_is_torchaudios() -> None:
    import download_vctk
    from gan_denoise.audio import torchaudio

    torchaudio()
    from torchaudio.datasets import vctk

    assert download_vctk.address() == (vctk.URL, vctk._CHECKSUMS[vctk.URL])
    assert vctk.URL.endswith("VCTK-Corpus-0.92.zip") and len(vctk._CHECKSUMS[vctk.URL]) in (32, 64)
