"""WAV files whose header is wrong about their samples, and what stands behind these."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import speech_like, write
from gan_denoise import audio
from gan_denoise.audio import riff
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError

WAVE = np.rint(speech_like(0, 1.0) * 2**15) / 2**15
LIST = b"LIST\x12\x00\x00\x00INFOINAM\x06\x00\x00\x00a song"
STALE = "the input's header tells of 5000 samples, and all 16000 that are there are read"


def wav(path: Path, *, data: int | None = None, **options: Any) -> bytes:
    """A file whose chunk `data` names so many bytes."""
    content = write(path, WAVE, **options).read_bytes()
    at = content.index(b"data") + 4
    return content if data is None else content[:at] + struct.pack("<I", data) + content[at + 4 :]


def copied(denoiser: Denoiser, path: Path, content: bytes) -> tuple[np.ndarray, list[str], bytes]:
    """The samples of a file with this content, the notes without a name, and the output."""
    path.write_bytes(content)
    target = path.with_name(f"copy_{path.name}")
    notes = enhance_file(denoiser, path, target, mix=0.0)
    samples = audio.read(target)[0][:, 0]
    return samples, [note.removeprefix(f"{target}: ") for note in notes], target.read_bytes()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8", "ULAW"])
def test_sound_behind_an_old_size_is_read(identity: Denoiser, tmp_path: Path, subtype: str) -> None:
    """As a recorder leaves it that crashed: the size was not brought up to date."""
    whole = wav(tmp_path / "a.wav", subtype=subtype)
    expected = audio.read_mono(tmp_path / "a.wav")[0]
    width = {"PCM_24": 3, "FLOAT": 4, "PCM_16": 2}.get(subtype, 1)
    stale = wav(tmp_path / "a.wav", data=5000 * width, subtype=subtype)
    for content in (stale, stale[:4] + struct.pack("<I", 5000 * width + 36) + stale[8:]):
        samples, notes, _ = copied(identity, tmp_path / "b.wav", content[: len(whole)])
        np.testing.assert_array_equal(samples, expected)
        assert notes == [STALE]
    samples, notes, output = copied(identity, tmp_path / "c.wav", stale + LIST)
    np.testing.assert_array_equal(samples, expected)
    assert notes == [STALE] and output.endswith(LIST)


def test_bytes_beyond_ascii_are_no_text(identity: Denoiser, tmp_path: Path) -> None:
    loud = write(tmp_path / "a.wav", np.abs(WAVE), subtype="PCM_U8").read_bytes()
    assert min(loud[-16000:]) >= 0x80
    at = loud.index(b"data") + 4
    stale = loud[:at] + struct.pack("<I", 5000) + loud[at + 4 :]
    samples, notes, _ = copied(identity, tmp_path / "b.wav", stale)
    assert len(samples) == 16000 and notes == [STALE]


@pytest.mark.parametrize(
    "rubbish",
    [b"\x03\x01\x02", b"TAG".ljust(128, b"\x07"), bytes(9000), b"garbage " * 3, b"words. " * 999,
     b"APETAGEX".ljust(9000, b"\x07"), b"LIST".ljust(9000, b"\x07"), LIST + b"\x07" * 9000],
    ids=["bytes", "ID3v1", "padding", "garb", "text", "APE", "cut", "behind a chunk"],
)  # fmt: skip
def test_rubbish_behind_the_samples_is_no_sound(
    identity: Denoiser, tmp_path: Path, rubbish: bytes
) -> None:
    for content in (wav(tmp_path / "a.wav"), wav(tmp_path / "a.wav") + LIST):
        samples, notes, output = copied(identity, tmp_path / "b.wav", content + rubbish)
        np.testing.assert_array_equal(samples, WAVE)
        listed = LIST in rubbish
        left = len(rubbish) - listed * len(LIST)
        assert notes == [f"{left} bytes behind the input's samples are no sound, and are left out"]
        assert output.count(LIST) == content.count(LIST) + listed


@pytest.mark.parametrize("size", [2**32 - 1, 2**31, 0x7FFFF000, 0])
def test_a_chunk_behind_the_samples_of_a_pipe_is_kept(
    identity: Denoiser, tmp_path: Path, size: int
) -> None:
    content = wav(tmp_path / "a.wav", data=size)
    more = b"bext" + struct.pack("<I", 602) + b"b" * 602 + b"id3 \x05\x00\x00\x00abcde\x00"
    for behind in (LIST, more + LIST, b""):
        samples, notes, output = copied(identity, tmp_path / "b.wav", content + behind)
        np.testing.assert_array_equal(samples, WAVE)
        assert not notes and output.endswith(behind) and len(output) == len(content + behind)


def test_a_byte_of_padding_may_be_missing(identity: Denoiser, tmp_path: Path) -> None:
    odd = write(tmp_path / "a.wav", WAVE[:4001], subtype="PCM_U8").read_bytes()
    expected = audio.read_mono(tmp_path / "a.wav")[0]
    bare = odd[: odd.index(b"data") + 8 + 4001]
    for content in (bare + LIST, bare + b"\0" + LIST):
        samples, notes, output = copied(identity, tmp_path / "b.wav", content)
        np.testing.assert_array_equal(samples, expected)
        assert not notes and output.endswith(LIST)


def test_chunks_of_the_other_order_of_bytes_are_named(identity: Denoiser, tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "a.wav", WAVE, endian="BIG").read_bytes())
    assert content[:4] == b"RIFX"
    content += b"LIST\x00\x00\x00\x12INFOINAM\x00\x00\x00\x06a song"
    content[4:8] = struct.pack(">I", len(content) - 8)
    samples, notes, _ = copied(identity, tmp_path / "b.wav", bytes(content))
    np.testing.assert_array_equal(samples, WAVE)
    assert notes == ["WAV has no place for the input's LIST, which are left out"]


def test_files_that_were_joined_are_refused(tmp_path: Path) -> None:
    for content in (wav(tmp_path / "a.wav") * 2, wav(tmp_path / "a.wav", data=10000) * 2):
        (tmp_path / "b.wav").write_bytes(content)
        with pytest.raises(InputError, match=r"b\.wav: (holds several|cannot be decoded)"):
            audio.read(tmp_path / "b.wav")


def with_size(content: bytes, kind: str, samples: int) -> bytes:
    """A file of PCM 16 whose header names so many samples."""
    name, form, more = {
        "AIFF": (b"SSND", ">I", 8), "AU": (b".snd", ">I", 0), "CAF": (b"data", ">q", 4),
    }[kind]  # fmt: skip
    at = content.rindex(name) + (8 if kind == "AU" else 4)
    size = struct.pack(form, 2 * samples + more)
    return content[:at] + size + content[at + len(size) :]


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [("AIFF", b"ANNO\x00\x00\x00\x04text"), ("AU", b""), ("CAF", b"free" + bytes(7) + b"\x02ab")],
)
def test_other_headers_that_are_old(
    identity: Denoiser, tmp_path: Path, kind: str, chunk: bytes
) -> None:
    whole = write(tmp_path / "a.x", WAVE, format=kind, subtype="PCM_16").read_bytes()
    name = f"b.{kind.lower()}"
    samples, notes, _ = copied(identity, tmp_path / name, with_size(whole, kind, 5000))
    np.testing.assert_array_equal(samples, WAVE)
    size = (
        "the input's header tells of 10000 bytes of samples, and all 32000 that are there are read"
    )
    assert notes == [size]
    with audio.Reader(tmp_path / name) as reader:
        assert not reader.plain
    samples, notes, _ = copied(identity, tmp_path / name, whole + chunk)
    np.testing.assert_array_equal(samples, WAVE)
    assert not [note for note in notes if "samples" in note]
    samples, notes, _ = copied(identity, tmp_path / name, whole + b"\x07" * 100)
    np.testing.assert_array_equal(samples, WAVE)
    assert notes == ["100 bytes behind the input's samples are no sound, and are left out"]


def test_telephony_of_a_pipe_ends_before_its_chunk(tmp_path: Path) -> None:
    for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610"):
        content = write(tmp_path / "a.wav", speech_like(0, 1.0, 8000), 8000, subtype=subtype)
        plain, frames = content.read_bytes(), len(audio.read(content)[0])
        at = plain.index(b"data") + 4
        size = int.from_bytes(plain[at : at + 4], "little")
        pipe = plain[:at] + b"\xff" * 4 + plain[at + 4 : at + 4 + size] + LIST
        content.write_bytes(pipe)
        wav = riff.layout(content)
        assert wav and (wav.size, wav.left) == (size, 0), subtype
        assert len(audio.read(content)[0]) == frames, subtype
