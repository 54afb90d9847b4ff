#!/usr/bin/env python3
"""Stage -1: download and unpack VCTK 0.92 (CC BY 4.0, DOI 10.7488/ds/2645; 11 GB, 12 GB unpacked).

    download_vctk.py [--url URL --checksum HEX] DIR

Address and checksum are torchaudio's. A broken download goes on where it stopped; a wrong checksum
is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from gan_denoise.audio import torchaudio
from gan_denoise.errors import InputError
from gan_denoise.system import terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say

NEEDED_BYTES = 24e9  # the archive and its content
_BLOCK = 2**20


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--url", metavar="URL", help="address of the archive (default: torchaudio's)"
    )
    parser.add_argument("--checksum", metavar="HEX", help="MD5 or SHA-256 of the archive at URL")
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder to make")
    arguments = parser.parse_args()
    folder = arguments.dir
    if (folder / "wav48_silence_trimmed").is_dir():
        say(f"stage -1: {folder} is there")
        return
    url, checksum = arguments.url, arguments.checksum
    if not url:
        url, checksum = address()
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < NEEDED_BYTES:
            raise InputError(
                f"{folder}: {NEEDED_BYTES / 1e9:.0f} GB are needed and {free / 1e9:.0f} GB free:"
                " choose another --corpus"
            )
    if not checksum:
        parser.error("--url needs --checksum")
    with owning(folder):
        fetch(url, checksum, folder)


def fetch(url: str, checksum: str, folder: Path) -> None:
    """Download what is missing, and unpack it. Raises InputError."""
    archive = folder / url.rsplit("/", 1)[-1]
    if archive.is_file():
        check(archive, checksum)  # it may have been put there by hand
    else:
        download(url, archive, checksum)
    unpack(archive, folder)
    say(f"stage -1: {folder} is ready; {archive} may be removed")


def address() -> tuple[str, str]:
    """Address and checksum of VCTK 0.92, as torchaudio's VCTK_092 has them."""
    torchaudio()
    from torchaudio.datasets import vctk

    return vctk.URL, vctk._CHECKSUMS[vctk.URL]


def download(url: str, archive: Path, checksum: str) -> None:
    """Download to `archive`, by way of `archive.part`, which a repeated call continues.

    Raises InputError.
    """
    part = archive.with_name(archive.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            # The server does not go on where we are, it sends everything
            if response.status != 206:
                have = 0
            total = have + int(response.headers.get("Content-Length", 0))
            say(
                f"stage -1: {url}: {total / 1e9:.2f} GB"
                + (f", going on at {have / 1e9:.2f} GB" if have else "")
            )
            with (
                open(part, "ab" if have else "wb") as file,
                tqdm(total=total, initial=have, unit="B", unit_scale=True) as bar,
            ):
                while block := response.read(_BLOCK):
                    file.write(block)
                    bar.update(len(block))
        if part.stat().st_size < total:
            raise InputError(
                f"{url}: the connection closed early: the same command goes on where it stopped"
            )
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: nothing is left to send, the file is whole
            raise InputError(
                f"{url}: the server answers {error.code} {error.reason}: check the address, try"
                " again later"
            ) from error
    except (
        urllib.error.URLError,
        http.client.HTTPException,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise InputError(
            f"{url}: the download broke ({error}): the same command goes on where it stopped"
        ) from error
    try:
        check(part, checksum)
    except InputError:
        part.unlink()
        raise
    part.rename(archive)


def check(archive: Path, checksum: str) -> None:
    """Refuse an archive that is not the one expected. Raises InputError."""
    with open(archive, "rb") as file:
        digest = hashlib.file_digest(file, "md5" if len(checksum) == 32 else "sha256").hexdigest()
    if digest != checksum.lower():
        raise InputError(
            f"{archive}: wrong checksum ({digest}, expected {checksum}): remove it and download it"
            " again"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into `folder`, which gets its content only when all of it is there.

    Raises InputError.
    """
    partial = folder / ".unpacking.part"
    partial.mkdir()
    try:
        with zipfile.ZipFile(archive) as file:
            for member in tqdm(file.infolist(), desc="unpacking", unit=" files", disable=None):
                file.extract(member, partial)
        content = partial
        while not (content / "wav48_silence_trimmed").is_dir():
            inner = [path for path in content.iterdir() if path.is_dir()]
            if len(inner) != 1:
                raise InputError(
                    f"{archive}: holds no wav48_silence_trimmed folder: is this VCTK 0.92?"
                )
            content = inner[0]
        # It comes last
        for path in sorted(
            content.iterdir(), key=lambda path: path.name == "wav48_silence_trimmed"
        ):
            path.rename(folder / path.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(
            f"{archive}: is not a whole zip archive ({error}): remove it and download it again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main()
