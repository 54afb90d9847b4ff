"""Files as they are written: format, sample rate, bit rate, chunks and tags kept; or nothing."""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any

import av
import mutagen.apev2
import mutagen.flac
import mutagen.id3
import numpy as np
import pytest
import soundfile as sf

from conftest import cli, one_error_line, run, speech_like, write
from gan_denoise import audio
from gan_denoise.audio import encoding
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError
from gan_denoise.system import files
from gan_denoise.system.files import writing
from gan_denoise.system.terminal import Terminated, terminate
from small_models import SMALL, randomised, save


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels"),
    [
        ("a.wav", "PCM_16", 16000, 1),
        ("a.wav", "PCM_U8", 8000, 1),
        ("a.wav", "PCM_24", 48000, 2),
        ("a.wav", "PCM_32", 44100, 6),
        ("a.wav", "FLOAT", 96000, 1),
        ("a.wav", "DOUBLE", 22050, 1),
        ("a.flac", "PCM_16", 192000, 1),
        ("a.FLAC", "PCM_24", 44100, 2),
        ("a.ogg", "VORBIS", 44100, 2),
        ("a.mp3", "MPEG_LAYER_III", 44100, 1),
    ],
)
def test_a_file_keeps_its_kind(
    identity: Denoiser, tmp_path: Path, name: str, subtype: str, rate: int, channels: int
) -> None:
    wave = np.stack([speech_like(i, 1.0 + 1.0 / rate, rate) for i in range(channels)], axis=1)
    source = write(tmp_path / name, wave, rate, subtype=subtype, format=name.split(".")[1].upper())
    assert not enhance_file(identity, source, tmp_path / "out" / name, mix=0.0)
    before, after = sf.info(source), sf.info(tmp_path / "out" / name)
    for what in ("format", "subtype", "samplerate", "channels"):
        assert getattr(before, what) == getattr(after, what)
    original, copied = audio.read(source)[0], audio.read(tmp_path / "out" / name)[0]
    assert original.shape == copied.shape == wave.shape
    if subtype in ("VORBIS", "MPEG_LAYER_III"):
        return
    np.testing.assert_array_equal(copied, original)  # the input only, to the bit and the sample
    enhance_file(identity, source, tmp_path / f"enhanced_{name}", high_band="keep")
    enhanced = audio.read(tmp_path / f"enhanced_{name}")[0]
    assert enhanced.shape == original.shape
    middle = slice(rate // 20, -rate // 20)
    np.testing.assert_allclose(
        enhanced[middle], original[middle], atol=0.03 if subtype == "PCM_U8" else 1e-3
    )


def test_another_container_takes_the_nearest_subtype(identity: Denoiser, tmp_path: Path) -> None:
    for source, target, subtype in (("a.wav", "b.flac", "PCM_24"), ("c.ogg", "d.wav", "PCM_16")):
        kind: dict[str, Any] = {"subtype": "FLOAT"} if source == "a.wav" else {}
        enhance_file(identity, write(tmp_path / source, speech_like(0), **kind), tmp_path / target)
        assert sf.info(tmp_path / target).subtype == subtype
    with pytest.raises(InputError, match=r"x\.aac: unknown suffix: name it x\.wav"):
        enhance_file(identity, tmp_path / "a.wav", tmp_path / "x.aac")
    with pytest.raises(InputError, match=r"y\.mp3: MP3 cannot hold 1 channels at 96000 Hz"):
        enhance_file(identity, write(tmp_path / "e.wav", speech_like(0), 96000), tmp_path / "y.mp3")
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_signal_while_libsndfile_writes_is_not_lost(
    identity: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    source, real = write(tmp_path / "a.wav", speech_like(0)), encoding._Sink.write

    def interrupted(sink: Any, content: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(sink, content)

    monkeypatch.setattr(encoding._Sink, "write", interrupted)
    handler = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(Terminated):
            enhance_file(identity, source, tmp_path / f"b{suffix}", mix=0.0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "options", "least_db"),
    [
        ("a.mp3", {"bitrate_mode": "CONSTANT", "compression_level": 0.0}, 30.0),
        ("a.mp3", {"bitrate_mode": "VARIABLE", "compression_level": 0.5}, 15.0),
        ("a.ogg", {"compression_level": 0.0}, 25.0),
        ("a.ogg", {"compression_level": 0.6}, 12.0),
        ("a.ogg", {"subtype": "OPUS", "compression_level": 0.5}, 12.0),
    ],
)
def test_a_coded_file_keeps_its_bit_rate(
    identity: Denoiser, tmp_path: Path, name: str, options: dict[str, Any], least_db: float
) -> None:
    wave = speech_like(0, 1.0, 48000) + 0.01 * np.random.default_rng(0).standard_normal(48000)
    source = write(tmp_path / name, wave, 48000, **options)
    assert not enhance_file(identity, source, tmp_path / f"b{name}", mix=0.0)
    before, after = (audio.read(path)[0] for path in (source, tmp_path / f"b{name}"))
    assert 10 * np.log10(np.mean(before**2) / np.mean((after - before) ** 2)) > least_db
    sizes = [path.stat().st_size for path in (source, tmp_path / f"b{name}")]
    assert 0.95 * sizes[0] < sizes[1] < 1.35 * sizes[0]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
def test_an_mp3_of_few_bits_keeps_length_and_time(
    identity: Denoiser, tmp_path: Path, rate: int, channels: int
) -> None:
    """A frame of too few bits has no place for the tag that names the encoder's delay."""
    wave = np.stack([speech_like(0, 1.0, rate)] * channels, axis=1)
    source = write(tmp_path / "a.mp3", wave, rate, bitrate_mode="CONSTANT", compression_level=0.99)
    assert not enhance_file(identity, source, tmp_path / "b.mp3", mix=0.0)
    before, after = (audio.read(tmp_path / name)[0][:, 0] for name in ("a.mp3", "b.mp3"))
    assert before.shape == after.shape
    likeness = np.correlate(after, before, "full")
    assert abs(int(np.argmax(likeness)) - (len(before) - 1)) <= 1


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_a_wav_keeps_its_chunks_and_channel_mask(
    identity: Denoiser, tmp_path: Path, kind: str
) -> None:
    wave = np.stack([speech_like(0, 0.1)] * 3, axis=1)
    source = write(tmp_path / "a.wav", wave, format=kind, subtype="PCM_24")
    chunks = b"".join(
        name + struct.pack("<I", len(text)) + text + bytes(len(text) % 2)
        for name, text in ((b"bext", b"b" * 603), (b"iXML", b"<x/>"), (b"cue ", bytes(4)))
    )
    content = bytearray(source.read_bytes() + chunks)
    at, form = (20, "<Q") if kind == "RF64" else (4, "<I")
    content[at : at + struct.calcsize(form)] = struct.pack(form, len(content) - 8)
    if kind == "WAVEX":
        content[40:44] = struct.pack("<I", 0b1011)
    source.write_bytes(content)
    assert not enhance_file(identity, source, tmp_path / "b.wav", mix=0.0)
    assert (tmp_path / "b.wav").read_bytes() == content
    (note,) = enhance_file(identity, source, tmp_path / "b.flac", mix=0.0)
    mask = ", channel mask" if kind == "WAVEX" else ""
    assert note.endswith(f"place for the input's bext, cue, iXML{mask}, which are left out")


def test_tags_are_kept_or_their_loss_is_noted(
    identity: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flac = write(tmp_path / "a.flac", speech_like(0, 0.1))
    tagged, picture = mutagen.flac.FLAC(flac), mutagen.flac.Picture()
    tagged["title"], picture.data = "Grüße", b"x" * 1000
    tagged.add_picture(picture)
    tagged.save()
    mp3, words = write(tmp_path / "a.mp3", speech_like(0, 0.1)), mutagen.id3.ID3()
    words.add(mutagen.id3.TIT2(encoding=3, text="Grüße"))
    words.save(mp3)
    notes = {}
    for source, target in ((flac, "b.flac"), (flac, "b.ogg"), (mp3, "b.mp3"), (flac, "b.wav")):
        notes[target] = enhance_file(identity, source, tmp_path / target, mix=0.0)
        assert len(audio.read(tmp_path / target)[0]) == 1600
    for name in ("b.flac", "b.ogg"):
        assert mutagen.File(tmp_path / name)["title"] == ["Grüße"]
    assert mutagen.File(tmp_path / "b.mp3")["TIT2"].text == ["Grüße"]
    assert mutagen.flac.FLAC(tmp_path / "b.flac").pictures[0].data == picture.data
    assert not notes["b.flac"] and not notes["b.mp3"] and "input's pictures" in notes["b.ogg"][1]
    assert "WAV has no place for the input's tags, pictures" in notes["b.wav"][0]
    monkeypatch.setitem(sys.modules, "mutagen", None)  # an extra
    (note,) = enhance_file(identity, mp3, tmp_path / "c.mp3", mix=0.0)
    assert note.endswith("c.mp3: the input's tags are left out: pip install mutagen")


def tagged(path: Path, codec: str, rate: int = 16000) -> Path:
    """Half a second with a title, as FFmpeg writes it."""
    with av.open(str(path), "w") as file:
        file.metadata.update({"title": "A song"})
        stream = file.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        wave = speech_like(0, 0.5, rate).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        kind = stream.codec_context.format
        for piece in av.AudioResampler(kind, "mono", rate).resample(frame):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mka", "flac"), ("a.mkv", "pcm_s16le"), ("a.tta", "tta"), ("a.caf", "pcm_s16be"),
     ("a.aif", "pcm_s16be"), ("a.au", "pcm_s16be")],
)  # fmt: skip
@pytest.mark.parametrize("with_mutagen", [True, False])
def test_tags_that_mutagen_does_not_know_are_named(
    identity: Denoiser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    codec: str,
    with_mutagen: bool,
) -> None:
    if not with_mutagen:
        monkeypatch.setitem(sys.modules, "mutagen", None)
    notes = enhance_file(identity, tagged(tmp_path / name, codec), tmp_path / "c.wav", mix=0.0)
    assert sum("input's tags" in note for note in notes) == 1, notes
    plain = write(tmp_path / "plain.wav", speech_like(0, 0.1), format="AIFF", subtype="PCM_16")
    assert not enhance_file(identity, plain, tmp_path / "b.wav", mix=0.0)


@pytest.mark.parametrize("old", [b"", b"TAG".ljust(128, b"\0")])
def test_an_ape_tag_behind_an_mp3_is_named(identity: Denoiser, tmp_path: Path, old: bytes) -> None:
    mp3, words = write(tmp_path / "a.mp3", speech_like(0, 0.5)), mutagen.apev2.APEv2()
    words["Title"] = "A song"
    words.save(mp3)
    mp3.write_bytes(mp3.read_bytes() + old)
    (note,) = enhance_file(identity, mp3, tmp_path / "b.mp3", mix=0.0)
    assert note.endswith("b.mp3: MP3 has no place for the input's APEv2 tags, which are left out")
    more = mutagen.id3.ID3()
    more.add(mutagen.id3.TIT2(encoding=3, text="A song"))
    more.save(mp3)
    (note,) = enhance_file(identity, mp3, tmp_path / "c.mp3", mix=0.0)
    assert note.endswith("c.mp3: MP3 has no place for the input's APEv2 tags, which are left out")
    assert mutagen.File(tmp_path / "c.mp3")["TIT2"].text == ["A song"]


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_mount_without_modes_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refused)
    if not unnamed:
        monkeypatch.setattr(files, "_unnamed", lambda folder: None)
    with writing(tmp_path / "x") as file:
        file.write(b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_clipping_is_counted_and_float_does_not_clip(identity: Denoiser, tmp_path: Path) -> None:
    loud = np.sign(speech_like(0)) * 0.999  # band-limited again, a square wave overshoots
    for subtype in ("PCM_16", "FLOAT"):
        source = write(tmp_path / f"{subtype}.wav", loud, 48000, subtype=subtype)
        notes = enhance_file(identity, source, tmp_path / f"out_{subtype}.wav")
        enhanced = sf.read(tmp_path / f"out_{subtype}.wav")[0]
        assert len(notes) == (subtype == "PCM_16") == (np.abs(enhanced).max() <= 1.0)
    folder = save(tmp_path / "model", SMALL["causal"], randomised(SMALL["causal"]))
    result = cli("enhance", "--model", folder, tmp_path / "PCM_16.wav", tmp_path / "c.wav")
    assert (
        result.returncode == 0 and "samples were beyond full scale and are clipped" in result.stderr
    )


def test_a_bad_file_leaves_nothing_behind(identity: Denoiser, tmp_path: Path) -> None:
    wave = speech_like(0, 10.0)
    wave[-100] = np.nan  # found after the first block was written
    source = write(tmp_path / "nan.wav", wave, subtype="FLOAT")
    with pytest.raises(InputError, match=r"nan\.wav: holds NaN"):
        enhance_file(identity, source, tmp_path / "out.wav")
    content = write(tmp_path / "cut.flac", speech_like(0, 10.0)).read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.flac: .*truncated"):
        enhance_file(identity, tmp_path / "cut.flac", tmp_path / "out.flac")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.flac", "nan.wav"]
    with pytest.raises(RuntimeError), writing(tmp_path / "x") as file:
        file.write(b"half")
        raise RuntimeError
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_one_line(model_dir: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", speech_like(0, 10.0))
    command = (
        f"ulimit -f 16; exec gan-denoise enhance --model {model_dir} {tmp_path}/a.wav"
        f" {tmp_path}/b.wav"
    )
    cut = {"PYTHONDONTWRITEBYTECODE": "1"}  # Python would keep what it wrote of a module
    one_error_line(run("bash", "-c", command, env=cut), f"{tmp_path}/b.wav: File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
