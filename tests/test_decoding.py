"""Files as the world makes them are read to the true end, or refused.

Such files come from pipes, `cat`, old telephones and damage.
"""

from __future__ import annotations

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import scipy.signal
import soundfile as sf

from conftest import cli, one_error_line, speech_like, write
from gan_denoise import audio
from gan_denoise.audio import riff
from gan_denoise.errors import InputError

RATE = 16000
WAVE = np.rint(speech_like(0, 3.0) * 2**15) / 2**15


def encoded(path: Path, wave: np.ndarray = WAVE, rate: int = RATE, **options: Any) -> bytes:
    return write(path, wave, rate, **options).read_bytes()


def read(path: Path, content: bytes) -> np.ndarray:
    """(T,) of a file with this content, read in small pieces; its suffix decides nothing."""
    path.write_bytes(content)
    with audio.Reader(path) as reader:
        return np.concatenate(list(reader.blocks(1000)))[:, 0]


def without_xing(mp3: bytes) -> bytes:
    """An MP3 without its first frame, which counts the others."""
    tag = max(mp3.find(b"Xing", 0, 200), mp3.find(b"Info", 0, 200))
    assert tag > 0
    return mp3[mp3.index(mp3[:2], tag + 120) :]


def close(decoded: np.ndarray, original: np.ndarray, delay: int = 0) -> None:
    """A lossy copy, `delay` samples late."""
    decoded = decoded[delay : delay + len(original)]
    assert len(decoded) == len(original)
    assert np.corrcoef(decoded, original)[0, 1] > 0.9


SIZES = {
    "ffmpeg": (2**32 - 1, 2**32 - 1),
    "sox": (2**31 - 1, 2**31 - 37),
    "sox of old": (0x7FFFF024, 0x7FFFF000),
    "arecord": (2**31 + 36, 2**31),
    "nothing": (0, 0),
    "nothing but a header": (36, 0),
}


def pipe_header(wav: bytes, riff: int, data: int) -> bytes:
    at = wav.index(b"data") + 4
    return wav[:4] + struct.pack("<I", riff) + wav[8:at] + struct.pack("<I", data) + wav[at + 4 :]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
def test_a_wav_from_a_pipe_is_read_to_its_end(tmp_path: Path, subtype: str, sizes: Any) -> None:
    wav = encoded(tmp_path / "a.wav", subtype=subtype)
    expected = audio.read_mono(tmp_path / "a.wav")[0]
    np.testing.assert_array_equal(read(tmp_path / "pipe.wav", pipe_header(wav, *sizes)), expected)
    cut = pipe_header(wav, *sizes)[:-1]  # the writer was stopped within a sample, or within padding
    assert len(expected) - len(read(tmp_path / "cut.wav", cut)) <= 1


@pytest.mark.parametrize("size", [96000 - 2**16, 60000], ids=["wrapped", "pipe"])
def test_a_wav_is_longer_than_the_size_in_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: Any
) -> None:
    """Beyond 4 GiB: here with smaller sizes."""
    monkeypatch.setattr(riff, "_WRAP", 2**16)
    monkeypatch.setattr(riff, "PIPE_SIZES", (60000,))
    behind = b"" if size == 60000 else b"LIST\x04\x00\x00\x00abcd"
    wav = pipe_header(encoded(tmp_path / "a.wav"), size + 36, size) + behind
    np.testing.assert_array_equal(read(tmp_path / "long.wav", wav), WAVE)


def recorded(path: Path, codec: str, *, timed: bool = True) -> Path:
    """WAVE as other programs store it. timed: whether the encoder's delay is before the start."""
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=48000, layout="mono")
        wave = scipy.signal.resample_poly(WAVE, 3, 1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = 48000
        if timed:
            frame.pts, frame.time_base = 0, Fraction(1, 48000)
        assert isinstance(stream, av.AudioStream)
        size = stream.codec_context.frame_size or None
        pieces = av.AudioResampler(stream.codec_context.format, "mono", 48000, frame_size=size)
        for piece in (*pieces.resample(frame), *pieces.resample(None), None):
            file.mux(stream.encode(piece))
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("b.mp4", "alac"), ("c.webm", "libopus"), ("d.wv", "wavpack"),
     ("e.mka", "flac"), ("f.ac3", "ac3"), ("g.mov", "pcm_s24le")],
)  # fmt: skip
def test_what_phones_and_browsers_record_is_read(tmp_path: Path, name: str, codec: str) -> None:
    path = recorded(tmp_path / name, codec)
    decoded = audio.read(path)[0][:, 0]
    delay = {"ac3": 256}.get(codec, 0)  # which has no word for its own
    assert 0 <= len(decoded) - 3 * len(WAVE) <= (1536 if delay else 0)
    close(decoded, scipy.signal.resample_poly(WAVE, 3, 1)[: len(decoded) - delay], delay)
    if codec not in ("ac3", "pcm_s24le"):
        content = path.read_bytes()
        with pytest.raises(InputError, match="damaged at|cannot be decoded"):
            read(tmp_path / f"cut_{name}", content[: len(content) * 2 // 3])


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "pcm_s16le"), ("b.flv", "aac"), ("c.ts", "aac"), ("d.mpg", "mp2")]
)
def test_the_sound_of_films_is_read(tmp_path: Path, name: str, codec: str) -> None:
    path = recorded(tmp_path / name, codec)
    decoded = audio.read(path)[0][:, 0]
    assert 0 <= len(decoded) - 3 * len(WAVE) < 2048
    likeness = scipy.signal.correlate(decoded, scipy.signal.resample_poly(WAVE, 3, 1))
    assert abs(int(np.argmax(likeness)) - (3 * len(WAVE) - 1)) < 2048
    content = path.read_bytes()
    if codec != "mp2":  # whose frames are whole
        with pytest.raises(InputError, match="damaged at|truncated"):
            read(tmp_path / f"cut_{name}", content[: len(content) * 2 // 3])


def test_an_opus_stream_begins_behind_its_encoders_delay(tmp_path: Path) -> None:
    for timed in (True, False):  # libsndfile is late where the clock begins with the delay
        decoded = audio.read(recorded(tmp_path / "a.opus", "libopus", timed=timed))[0][:, 0]
        wave = scipy.signal.resample_poly(WAVE, 3, 1)
        assert len(decoded) == len(wave)
        assert np.argmax(scipy.signal.correlate(decoded, wave, "full")) == len(wave) - 1


def test_a_folders_other_files_are_read_or_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name, options in (("a.aif", {"format": "AIFF"}), ("b.oga", {"format": "OGG"}),
                          ("c.bwf", {"format": "WAV"}), ("d.caf", {}), ("e.w64", {}),
                          ("f.opus", {"format": "OGG", "subtype": "OPUS"})):  # fmt: skip
        write(folder / name, WAVE, RATE, **options)
    recorded(folder / "g.m4a", "aac")
    for name in ("notes.txt", "x/cover.jpg", ".hidden"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no audio")
    result = cli("enhance", "--mix", 0, folder, tmp_path / "out")
    assert result.returncode == 0 and "7 of 7 files done" in result.stderr, result.stderr
    assert (
        "left out, since they are not named like audio files: 2 (notes.txt, x/cover.jpg)"
        in result.stderr
    )
    assert "g.wav: written as PCM_16, since WAV is no place for AAC" in result.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.aif", "b.oga", "c.bwf", "d.caf", "e.w64", "f.opus", "g.wav"]
    write(folder / "g.wav", WAVE, RATE)
    result = cli("enhance", "--mix", 0, folder, tmp_path / "again")
    one_error_line(result, "g.wav: would be written from", "g.m4a and from", "rename one")


def test_other_headers_of_pipes(tmp_path: Path) -> None:
    flac = encoded(tmp_path / "a.flac")
    # STREAMINFO's total of samples
    unknown = flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]
    np.testing.assert_array_equal(read(tmp_path / "b.flac", unknown), WAVE)
    aiff = bytearray(encoded(tmp_path / "a.wav", format="AIFF", subtype="PCM_16"))
    for name, size in ((b"FORM", 0x7F000048), (b"SSND", 0x7F000008)):
        aiff[aiff.index(name) + 4 : aiff.index(name) + 8] = struct.pack(">I", size)
    np.testing.assert_array_equal(read(tmp_path / "b.wav", bytes(aiff)), WAVE)
    au = bytearray(encoded(tmp_path / "a.wav", format="AU", subtype="PCM_16"))
    au[8:12] = b"\xff" * 4
    np.testing.assert_array_equal(read(tmp_path / "c.wav", bytes(au)), WAVE)


def test_what_a_header_rightly_promises_is_missed(tmp_path: Path) -> None:
    wav, flac = encoded(tmp_path / "a.wav"), encoded(tmp_path / "a.flac")
    mp3 = encoded(tmp_path / "a.mp3")
    telephone = encoded(tmp_path / "t.wav", subtype="GSM610", rate=8000)
    for content in (
        wav[:20000],
        flac[: len(flac) // 2],
        mp3[: len(mp3) // 2],
        telephone[: len(telephone) // 2],
    ):
        with pytest.raises(InputError, match="truncated"):
            read(tmp_path / "cut", content)
    empty = encoded(tmp_path / "e.wav", WAVE[:0])
    for content in (empty, empty + b"LIST\x04\x00\x00\x00abcd"):
        whole = content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
        with pytest.raises(InputError, match="holds no samples"):
            read(tmp_path / "empty.wav", whole)


@pytest.mark.parametrize("first", ["loud", "quiet"])
def test_the_length_of_an_mp3_is_what_decoding_yields(tmp_path: Path, first: str) -> None:
    """Without a Xing header libsndfile estimates the length from the first frames.

    It would lose 36 %, or refuse a good file.
    """
    silence = np.zeros(6 * RATE)
    wave = np.concatenate([WAVE, silence] if first == "loud" else [silence, WAVE])
    mp3 = encoded(tmp_path / "a.mp3", wave, bitrate_mode="VARIABLE", compression_level=0.3)
    assert len(read(tmp_path / "counted.mp3", mp3)) == len(wave)
    bare = without_xing(mp3)
    (tmp_path / "bare.mp3").write_bytes(bare)
    # As the reports say
    assert sf.info(tmp_path / "bare.mp3").frames != pytest.approx(len(wave), rel=0.2)
    decoded = read(tmp_path / "bare.mp3", bare)
    assert 0 <= len(decoded) - len(wave) < 3 * 1152
    lag = int(np.argmax(scipy.signal.correlate(decoded, wave, mode="valid")))
    close(decoded[lag : lag + len(wave) - 1152], wave[: len(wave) - 1152])


def test_joined_files_are_whole(tmp_path: Path) -> None:
    mp3, flac, ogg = (encoded(tmp_path / f"a{suffix}") for suffix in (".mp3", ".flac", ".ogg"))
    np.testing.assert_array_equal(
        read(tmp_path / "j.flac", flac + flac), np.concatenate([WAVE, WAVE])
    )
    decoded = read(tmp_path / "j.ogg", ogg + ogg)
    # The last block of the first file is filled up
    assert abs(len(decoded) - 2 * len(WAVE)) <= 1024
    close(decoded, WAVE)
    close(decoded, WAVE, len(decoded) - len(WAVE))
    tag = b"ID3\x03\x00\x00\x00\x00\x00\x0aTIT2" + bytes(6)
    old = b"TAG" + b"A song".ljust(125, b"\0")
    for content in (
        mp3 + mp3,
        tag + mp3 + old + tag + mp3 + old,
        without_xing(mp3) + without_xing(mp3),
    ):
        decoded = read(tmp_path / "j.mp3", content)
        assert abs(len(decoded) - 2 * len(WAVE)) < 4 * 1152
        assert np.abs(decoded[-RATE:]).max() > 0.05  # the second file's end
    other = encoded(tmp_path / "b.mp3", np.stack([WAVE, WAVE], axis=1))
    with pytest.raises(
        InputError, match=r"goes on with 2 channels at 16000 Hz after 3\.\d s: split it there"
    ):
        read(tmp_path / "j.mp3", mp3 + other)
    wav = encoded(tmp_path / "a.wav")
    for content in (wav + wav, pipe_header(wav, *SIZES["ffmpeg"]) * 2):
        with pytest.raises(InputError):
            read(tmp_path / "j.wav", content)


def test_damage_is_said_and_rubbish_behind_the_end_is_not(tmp_path: Path) -> None:
    rubbish = np.random.default_rng(0).bytes(3000)
    mp3, flac, ogg = (encoded(tmp_path / f"a{suffix}") for suffix in (".mp3", ".flac", ".ogg"))
    for content in (mp3, flac, ogg, without_xing(mp3)):
        half = len(content) // 2
        with pytest.raises(InputError, match="damaged at|cannot be decoded|truncated"):
            read(tmp_path / "damaged", content[:half] + rubbish[:1500] + content[half + 1500 :])
    for content in (mp3 + rubbish, mp3 + bytes(3000), mp3 + b"APETAGEX" + bytes(100)):
        decoded = read(tmp_path / "a.mp3", content)
        assert 0 <= len(decoded) - len(WAVE) < 1152
        close(decoded, WAVE)


def test_a_header_that_names_a_place_beyond_all_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """PyAV printed what Python raises there, and the disk was blamed."""
    caf = encoded(tmp_path / "a.caf", subtype="PCM_16").replace(b"lpcm", b"\x7fpcm")
    with pytest.raises(InputError, match=r"b\.bin: cannot be decoded"):
        read(tmp_path / "b.bin", caf + b"LIST\n" + bytes(3) + b"INFOxxxxyy")  # a size of 64 bits
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "IMA_ADPCM", "MS_ADPCM", "ULAW", "ALAW"])
def test_telephony_is_read_and_written_as_pcm(
    tmp_path: Path, subtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = speech_like(0, 1.001, 8000)
    write(tmp_path / "in/a.wav", wave, 8000, subtype=subtype)
    write(tmp_path / "in/b.wav", wave, 8000)
    (tmp_path / "in/c.wav").write_bytes(b"RIFF rubbish")
    decoded = audio.read_mono(tmp_path / "in/a.wav")[0]
    assert 0 <= len(decoded) - len(wave) < 1100  # blocks are filled up
    close(decoded, wave)
    result = cli("enhance", "--mix", 0, tmp_path / "in", tmp_path / "out")
    one_error_line(result, "c.wav: cannot be decoded")
    assert "2 of 3 files done, 1 failed" in result.stderr
    copied = audio.read_mono(tmp_path / "out/a.wav")[0]
    assert len(copied) == len(decoded)
    if subtype in ("ULAW", "ALAW"):
        assert sf.info(tmp_path / "out/a.wav").subtype == subtype
    else:
        np.testing.assert_allclose(copied, decoded, atol=2**-15)
        assert (
            f"note: {tmp_path}/out/a.wav: written as PCM_16, since WAV is no place for {subtype}"
            in result.stderr
        )


@pytest.mark.parametrize(
    ("source", "target", "subtype"),
    [
        ({"name": "a.mp3"}, "b.wav", "PCM_16"),
        ({"name": "a.wav", "format": "MP3", "subtype": "MPEG_LAYER_III"}, "b.wav", "PCM_16"),
        ({"name": "a.ogg"}, "b.wav", "PCM_16"),
        ({"name": "a.ogg"}, "b.flac", "PCM_16"),
        ({"name": "a.ogg"}, "b.mp3", "MPEG_LAYER_III"),
        ({"name": "a.mp3"}, "b.ogg", "VORBIS"),
        ({"name": "a.wav", "subtype": "FLOAT"}, "b.flac", "PCM_24"),
        ({"name": "a.wav", "subtype": "PCM_32"}, "b.flac", "PCM_24"),
        ({"name": "a.wav", "subtype": "PCM_U8"}, "b.flac", "PCM_S8"),
        ({"name": "a.flac", "subtype": "PCM_S8"}, "b.wav", "PCM_U8"),
        ({"name": "a.wav", "subtype": "ULAW"}, "b.flac", "PCM_16"),
        ({"name": "a.wav", "subtype": "PCM_24"}, "b.mp3", "MPEG_LAYER_III"),
    ],
    ids=str,
)
def test_what_can_be_written_is_written_and_the_change_noted(
    tmp_path: Path, source: dict[str, Any], target: str, subtype: str
) -> None:
    name = source.pop("name")
    write(tmp_path / name, WAVE, RATE, **source)
    result = cli("enhance", "--mix", 0, tmp_path / name, tmp_path / target)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("note: ") == 1 and f"{target}: written as {subtype}" in result.stderr
    assert sf.info(tmp_path / target).subtype == subtype
    assert len(audio.read_mono(tmp_path / target)[0]) == len(WAVE)


def test_memory_does_not_grow_with_a_file_that_ffmpeg_reads(tmp_path: Path) -> None:
    write(tmp_path / "long.mp3", np.tile(WAVE, 100), RATE)  # 19 MB as float32
    (tmp_path / "bare.mp3").write_bytes(without_xing((tmp_path / "long.mp3").read_bytes()))
    with audio.Reader(tmp_path / "bare.mp3") as reader:
        tracemalloc.start()
        samples = sum(len(block) for block in reader.blocks(2**16))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 0 <= samples - 100 * len(WAVE) < 3 * 1152 and peak < 3e6


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write(tmp_path / "secret.wav", WAVE, RATE)
    for content in (
        "#EXTM3U\n#EXTINF:3,\nsecret.wav\n",
        f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n",
        "[playlist]\nFile1=secret.wav\n",
    ):
        (tmp_path / "list.mp3").write_text(content)
        with pytest.raises(InputError, match="cannot be decoded"):
            audio.read(tmp_path / "list.mp3")
