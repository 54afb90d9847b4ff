"""Enhancement: streams against the whole, files of any kind, the programs enhance, stream and
export.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tracemalloc

import mutagen.flac
import mutagen.id3
import numpy as np
import pytest
import soundfile as sf
import torch

import gan_denoise
from conftest import ROOT, cli, one_error_line, run, speech_like, write
from gan_denoise import audio, encoding, export, files, generators, graph, streaming
from gan_denoise.checkpoint import load_model, save_model
from gan_denoise.enhance import BOXED, Denoiser, enhance_file
from gan_denoise.errors import InputError
from gan_denoise.files import writing
from gan_denoise.live import live
from gan_denoise.terminal import Terminated, terminate
from test_models import SMALL, save


def randomised(options, seed=0):
    """A generator away from the identity that it starts at."""
    torch.manual_seed(seed)
    generator = generators.build(options, sample_rate=16000).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return generator


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A small streaming model with random weights."""
    return save(
        tmp_path_factory.mktemp("causal") / "model", SMALL["causal"], randomised(SMALL["causal"])
    )


@pytest.fixture(scope="module")
def identity():
    """A Denoiser that gives back what it hears, up to half its rate of 16 kHz."""
    generator = generators.build(SMALL["causal"], sample_rate=16000)
    torch.nn.init.zeros_(generator.head.weight)
    return Denoiser(generator, 16000)


def in_pieces(stage, wave, draw, largest=40000):
    """(T, channels) through a stage in pieces of random sizes, 1 sample among them: the finished
    pieces.
    """
    pieces, start = [], 0
    while start < len(wave):
        size = int(draw.choice([1, 2, 255, 256, 257, draw.integers(1, largest)]))
        pieces.append(stage.push(wave[start : start + size]))
        start += size
    return [*pieces, stage.flush()]


def whole(generator, wave):
    """(T, channels) at once."""
    with torch.inference_mode():
        return generator(torch.from_numpy(wave.T.copy())[:, None])[:, 0].numpy().T


def test_a_stream_equals_the_whole():
    others = (randomised(SMALL[name], seed) for name in ("causal", "bands") for seed in range(2))
    for generator in (gan_denoise.load("live").generator, *others):
        draw = np.random.default_rng(0)
        wave = np.stack([speech_like(i, 4.0) for i in range(2)], axis=1).astype(np.float32)
        expected = whole(generator, wave)
        stream = streaming.Stream(generator, 2, 16000)
        for _ in range(2):  # the second time after the reset that a flush is
            streamed = np.concatenate(in_pieces(stream, wave, draw))
            np.testing.assert_allclose(streamed, expected, rtol=0.0, atol=1e-5)
        stream.push(wave[:5000])
        stream.reset()
        streamed = np.concatenate([stream.push(wave), stream.flush()])
        np.testing.assert_allclose(streamed, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 192000])
def test_a_stream_is_50_ms_behind_at_most_at_any_rate(identity, rate):
    stream, time = identity.stream(rate), np.arange(rate // 2) / rate
    assert stream.latency_s == pytest.approx(0.032 if rate == 16000 else 0.042, abs=5e-4)
    wave = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[:, None]
    draw, pieces, start, behind = np.random.default_rng(0), [], 0, 0
    while start < len(wave):
        size = int(draw.integers(1, rate // 1000))
        pieces.append(stream.push(wave[start : start + size]))
        start += size
        behind = max(behind, min(start, len(wave)) - sum(len(piece) for piece in pieces))
    assert behind <= stream.latency_s * rate
    streamed = np.concatenate([*pieces, stream.flush()])
    again = np.concatenate([stream.push(wave), stream.flush()])
    np.testing.assert_allclose(streamed, again, atol=1e-5)
    middle = slice(rate // 20, -rate // 20)  # aligned to the sample
    np.testing.assert_allclose(streamed[middle], wave[middle], atol=1e-3)


def test_two_streams_of_one_model_do_not_mix():
    generator = randomised(SMALL["causal"])
    waves = [speech_like(i, 2.0).astype(np.float32)[:, None] for i in range(2)]
    streams = [streaming.Stream(generator, 1, 16000) for _ in waves]
    heard = [[], []]
    for start in range(0, 32000, 700):
        for wave, stream, pieces in zip(waves, streams, heard, strict=True):
            pieces.append(stream.push(wave[start : start + 700]))
    for wave, stream, pieces in zip(waves, streams, heard, strict=True):
        streamed = np.concatenate([*pieces, stream.flush()])
        np.testing.assert_allclose(streamed, whole(generator, wave), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 511, 513])
def test_the_tail_of_a_short_stream_comes_out(length):
    generator, wave = randomised(SMALL["causal"]), speech_like(0).astype(np.float32)[:length, None]
    stream = streaming.Stream(generator, 1, 16000)
    streamed = np.concatenate([stream.push(wave), stream.flush()])
    np.testing.assert_allclose(streamed, whole(generator, wave), rtol=0.0, atol=1e-5)
    assert stream.flush().shape == (0, 1)


def test_a_causal_generator_states_its_latency():
    boxed = gan_denoise.load("live").generator
    assert (
        boxed.latency <= 512
        and boxed.latency == generators.build(SMALL["causal"], sample_rate=16000).latency
    )
    for generator in (boxed, randomised(SMALL["causal"]), randomised(SMALL["bands"])):
        wave = speech_like(0, 2.0).astype(np.float32)[:, None]
        expected = whole(generator, wave)
        for t in (1, 300, 8000, 16001):
            changed = wave.copy()
            changed[t + generator.latency :] = (
                0.3 * speech_like(1, 2.0)[t + generator.latency :, None]
            )
            # Bit for bit
            np.testing.assert_array_equal(whole(generator, changed)[: t + 1], expected[: t + 1])
        stream = streaming.Stream(generator, 1, 16000)
        said = [len(stream.push(wave[i : i + 1])) for i in range(4000)]
        # So many wait at most
        assert np.max(np.arange(1, 4001) - np.cumsum(said)) == generator.latency - 1


def test_a_stream_refuses_nan_and_recovers():
    generator, wave = randomised(SMALL["causal"]), speech_like(0).astype(np.float32)[:, None]
    stream = Denoiser(generator, 16000).stream()
    stream.push(wave[:1000])
    with pytest.raises(InputError, match="NaN"):
        stream.push(np.full((10, 1), np.nan, dtype=np.float32))
    streamed = np.concatenate([stream.push(wave[1000:]), stream.flush()])
    assert np.isfinite(streamed).all()


@pytest.mark.parametrize("name", SMALL)
def test_pieces_equal_the_whole_for_every_generator(name, monkeypatch):
    monkeypatch.setattr(streaming, "_CHUNK_S", 0.3)
    monkeypatch.setattr(streaming, "_STEP_S", 0.3)
    denoiser, wave = (
        Denoiser(randomised(SMALL[name]), 16000),
        speech_like(0, 3.0).astype(np.float32)[:, None],
    )
    expected, draw = whole(denoiser.generator, wave), np.random.default_rng(0)
    cuts = np.sort(draw.integers(0, len(wave), 9))
    enhanced = np.concatenate(list(denoiser.blocks(np.split(wave, cuts), 16000, 1)))
    np.testing.assert_allclose(enhanced, expected, rtol=0.0, atol=1e-5)
    if denoiser.streams:
        assert denoiser.stream(16000)
    else:
        with pytest.raises(InputError, match="cannot stream"):
            denoiser.stream()


@pytest.mark.parametrize("gain_db", [-40.0, -20.0, 20.0])
@pytest.mark.parametrize("name", SMALL)
def test_level_does_not_matter(name, gain_db):
    denoiser = Denoiser(randomised(SMALL[name]), 16000)
    wave = speech_like(0).astype(np.float32)
    gain = np.float32(10 ** (gain_db / 20))
    np.testing.assert_allclose(
        denoiser(wave * gain, 16000) / gain, denoiser(wave, 16000), atol=5e-6
    )
    assert not denoiser(np.zeros(1000), 16000).any()


@pytest.mark.parametrize(
    ("rate", "channels"), [(16000, 1), (48000, 2), (44100, 1), (8000, 3), (192000, 1), (11025, 8)]
)
def test_rates_and_channels_keep_shape_and_time(identity, rate, channels):
    time = np.arange(rate // 2 + 1) / rate
    wave = np.stack([np.sin(2 * np.pi * 440 * (i + 1) * time) for i in range(channels)], axis=1)
    enhanced = identity(wave, rate)
    assert enhanced.shape == wave.shape
    middle = slice(rate // 20, -rate // 20)
    np.testing.assert_allclose(enhanced[middle], wave[middle], atol=1e-3)  # aligned to the sample


def test_what_the_model_does_not_hear_is_dropped_or_kept(identity):
    time = np.arange(48000) / 48000
    low, high = 0.1 * np.sin(2 * np.pi * 1000 * time), 0.1 * np.sin(2 * np.pi * 15000 * time)
    middle = slice(4800, -4800)
    np.testing.assert_allclose(identity(low + high, 48000)[middle], low[middle], atol=1e-3)
    kept = identity(low + high, 48000, high_band="keep")
    np.testing.assert_allclose(kept[middle], (low + high)[middle], atol=1e-3)
    half = identity(low + high, 48000, mix=0.5)
    np.testing.assert_allclose(half[middle], (low + 0.5 * high)[middle], atol=1e-3)
    np.testing.assert_array_equal(identity(low, 48000, mix=0.0), np.float32(low))


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
def test_a_file_keeps_its_kind(identity, tmp_path, name, subtype, rate, channels):
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


def test_another_container_takes_the_nearest_subtype(identity, tmp_path):
    for source, target, subtype in (("a.wav", "b.flac", "PCM_24"), ("c.ogg", "d.wav", "PCM_16")):
        kind = {"subtype": "FLOAT"} if source == "a.wav" else {}
        enhance_file(identity, write(tmp_path / source, speech_like(0), **kind), tmp_path / target)
        assert sf.info(tmp_path / target).subtype == subtype
    with pytest.raises(InputError, match=r"x\.aac: unknown suffix: name it x\.wav"):
        enhance_file(identity, tmp_path / "a.wav", tmp_path / "x.aac")
    with pytest.raises(InputError, match=r"y\.mp3: MP3 cannot hold 1 channels at 96000 Hz"):
        enhance_file(identity, write(tmp_path / "e.wav", speech_like(0), 96000), tmp_path / "y.mp3")
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_no_output_is_an_input(tmp_path):
    """Of another file than its own: the recordings were overwritten without a word."""
    inner, outer = tmp_path / "rec/day1/day1/a.wav", tmp_path / "rec/day1/a.wav"
    for path in (inner, outer):
        write(path, speech_like(0))
    before = outer.read_bytes()
    result = cli("enhance", "--mix", 0, "--overwrite", tmp_path / "rec/day1", tmp_path / "rec")
    one_error_line(result, f"written from {inner}, and is an input file ({outer})")
    (tmp_path / "wav.scp").write_text(f"b {outer}\na {inner}\n")
    result = cli("enhance", "--mix", 0, "--overwrite", tmp_path / "wav.scp", tmp_path / "rec/day1")
    one_error_line(result, f"written from {inner}, and is an input file ({outer})")
    assert outer.read_bytes() == before


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_signal_while_libsndfile_writes_is_not_lost(identity, tmp_path, monkeypatch, suffix):
    source, real = write(tmp_path / "a.wav", speech_like(0)), encoding._Sink.write

    def interrupted(sink, content):
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
def test_a_coded_file_keeps_its_bit_rate(identity, tmp_path, name, options, least_db):
    wave = speech_like(0, 1.0, 48000) + 0.01 * np.random.default_rng(0).standard_normal(48000)
    source = write(tmp_path / name, wave, 48000, **options)
    assert not enhance_file(identity, source, tmp_path / f"b{name}", mix=0.0)
    before, after = (audio.read(path)[0] for path in (source, tmp_path / f"b{name}"))
    assert 10 * np.log10(np.mean(before**2) / np.mean((after - before) ** 2)) > least_db
    sizes = [path.stat().st_size for path in (source, tmp_path / f"b{name}")]
    assert 0.95 * sizes[0] < sizes[1] < 1.35 * sizes[0]


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
def test_a_wav_keeps_its_chunks_and_channel_mask(identity, tmp_path, kind):
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


def test_tags_are_kept_or_their_loss_is_noted(identity, tmp_path, monkeypatch):
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


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_mount_without_modes_is_written_to(tmp_path, monkeypatch, unnamed):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refused)
    if not unnamed:
        monkeypatch.setattr(files, "_unnamed", lambda folder: None)
    with writing(tmp_path / "x") as file:
        file.write(b"whole")
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_clipping_is_counted_and_float_does_not_clip(identity, tmp_path):
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


def test_memory_does_not_grow_with_the_file(identity, tmp_path):
    # 38 MB as float32
    source = write(tmp_path / "long.wav", np.tile(speech_like(0, 10.0), 60), subtype="PCM_16")
    tracemalloc.start()
    enhance_file(identity, source, tmp_path / "out.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sf.info(tmp_path / "out.wav").frames == 9600000 and peak < 15e6


def test_a_bad_file_leaves_nothing_behind(identity, tmp_path):
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


def test_a_full_disk_is_one_line(model_dir, tmp_path):
    write(tmp_path / "a.wav", speech_like(0, 10.0))
    command = (
        f"ulimit -f 16; exec gan-denoise enhance --model {model_dir} {tmp_path}/a.wav"
        f" {tmp_path}/b.wav"
    )
    one_error_line(run("bash", "-c", command), f"{tmp_path}/b.wav: File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_enhance_from_the_command_line(model_dir, tmp_path):
    noisy = tmp_path / "in"
    for number in range(3):
        write(noisy / f"a/{number}.wav", speech_like(number, 0.5))
    write(noisy / "b/stereo.flac", np.stack([speech_like(5, 0.4, 48000)] * 2, axis=1), 48000)
    (noisy / "b/rubbish.wav").write_text("rubbish " * 50)
    result = cli("enhance", "--model", model_dir, "--jobs", 2, noisy, tmp_path / "out")
    one_error_line(result, "rubbish.wav", "cannot be decoded")
    assert "4 of 5 files done, 1 failed" in result.stderr
    stereo, rate = audio.read(tmp_path / "out/b/stereo.flac")
    assert stereo.shape == (19200, 2) and rate == 48000
    one = tmp_path / "out/a/0.wav"
    direct = gan_denoise.load(model_dir)(audio.read_mono(noisy / "a/0.wav")[0], 16000)
    np.testing.assert_allclose(audio.read_mono(one)[0], direct, atol=1.0 / 32768)
    result = cli("enhance", "--model", model_dir, noisy / "a/0.wav", one)
    one_error_line(result, "0.wav: exists", "--overwrite")
    # By the model in the package
    boxed = ("--model", "boxed")  # as it was called when there was one
    result = cli("enhance", *boxed, "--overwrite", "--mix", 0, noisy / "a/0.wav", one)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(audio.read(one)[0], audio.read(noisy / "a/0.wav")[0])
    result = cli("enhance", "--model", model_dir, noisy / "a", tmp_path / "out/a")
    assert result.returncode == 0 and "0 of 3 files done, 3 skipped" in result.stderr
    one_error_line(
        cli("enhance", "--model", tmp_path, noisy, tmp_path / "x"), "is no model directory"
    )
    one_error_line(cli("enhance", tmp_path / "absent.wav", "x.wav"), "no such file")
    assert cli("enhance", noisy).returncode == 2
    assert cli("enhance", "--help").returncode == 0


def stream(model_dir, samples: bytes, *options) -> tuple[np.ndarray, subprocess.CompletedProcess]:
    command = ["gan-denoise", "stream", "--model", str(model_dir), *map(str, options), "-", "-"]
    result = subprocess.run(command, input=samples, capture_output=True, timeout=120)
    return np.frombuffer(result.stdout, dtype="<i2"), result


def stream_here(model_dir, samples: bytes, folder) -> tuple[np.ndarray, str]:
    """The same in this process, from file to file: what came out, and what was told."""
    (folder / "in").write_bytes(samples)
    told: list[str] = []
    with (folder / "in").open("rb") as source, (folder / "out").open("wb") as target:
        denoiser = gan_denoise.load(model_dir)
        assert not live(denoiser, 16000, source.fileno(), target.fileno(), told.append)
    return np.frombuffer((folder / "out").read_bytes(), dtype="<i2"), "\n".join(told)


def test_stream_from_pipe_to_pipe(model_dir, tmp_path):
    samples = np.rint(speech_like(0, 2.0) * 32767).astype("<i2")
    streamed, result = stream(model_dir, samples.tobytes())
    assert result.returncode == 0, result.stderr
    expected = gan_denoise.load(model_dir)(samples / 32768, 16000) * 32768
    np.testing.assert_allclose(streamed, expected, atol=0.51)
    for words in (
        b"2.00 s",
        b"real-time factor 0.",
        b"worst chunk",
        b"latency 512 samples at 16000 Hz (32 ms)",
    ):
        assert words in result.stderr
    resampled, result = stream(model_dir, samples.tobytes(), "--sample-rate", 44100)
    assert len(resampled) == len(samples) and b"with resampling" in result.stderr
    odd, told = stream_here(model_dir, samples[:1000].tobytes() + b"\x01", tmp_path)
    assert len(odd) == 1000 and "its last byte is left out" in told
    silence, _ = stream_here(model_dir, bytes(20000), tmp_path)
    assert len(silence) == 10000 and not silence.any()
    nothing, _ = stream_here(model_dir, b"", tmp_path)
    assert len(nothing) == 0


def test_stream_survives_a_closed_pipe(model_dir):
    command = (
        f"head -c 2000000 /dev/zero | gan-denoise stream --model {model_dir} - - | head -c 1000 |"
        " wc -c; echo ${PIPESTATUS[1]}"
    )
    result = run("bash", "-c", command)
    assert result.stdout.split() == ["1000", "141"] and "Traceback" not in result.stderr
    assert "real-time factor" in result.stderr


def test_stream_wants_a_model_that_streams(tmp_path):
    other = save(tmp_path / "model", SMALL["convnext"], randomised(SMALL["convnext"]))
    result = stream(other, bytes(1000))[1]
    assert (
        result.returncode == 1
        and result.stderr.count(b"\n") == 1
        and b"cannot stream" in result.stderr
    )


def test_export_by_a_users_hand(tmp_path, monkeypatch):
    """The README's commands and the card's example, with the model in the package."""
    onnx, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxruntime"))
    result = cli("export", "boxed", tmp_path / "denoise.onnx")
    assert result.returncode == 0, result.stderr
    one_error_line(cli("export", "boxed", tmp_path / "denoise.onnx"), "denoise.onnx: exists")
    for name in ("denoise.onnx", "denoise.stream.onnx"):  # which tell nothing of this machine
        assert str(ROOT).encode() not in (tmp_path / name).read_bytes()
    model = onnx.load(tmp_path / "denoise.stream.onnx")
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)  # for old runtimes
    steps = model.graph.node
    assert "Shape" not in {node.op_type for node in steps}  # nothing is worked out anew at each hop
    ours = onnx.load(BOXED["live"] / graph.NAME)  # what live use runs: as the code makes it today
    assert [node.op_type for node in ours.graph.node] == [node.op_type for node in steps]
    session = onnxruntime.InferenceSession(tmp_path / "denoise.stream.onnx")
    ends = {end.name: end.shape for end in [*session.get_inputs(), *session.get_outputs()]}
    assert ends["noisy"] == ends["enhanced"] == ["batch", "samples"]
    assert ends["memory"] == ends["memory_after"] == ["batch", 4, 24, 64]
    about = session.get_modelmeta().custom_metadata_map
    assert (about["sample_rate"], about["latency"], about["hop_length"]) == ("16000", "512", "256")
    assert (
        about["licence"]
        and about["procedure"]
        and json.loads(about["state"])["heard"] == ["batch", 2, 63, 1]
    )

    noisy = speech_like(0, 3.0).astype(np.float32)
    denoiser = gan_denoise.load("live")
    session = onnxruntime.InferenceSession(tmp_path / "denoise.onnx")
    (enhanced,) = session.run(None, {"noisy": noisy[None]})
    np.testing.assert_allclose(enhanced[0], denoiser(noisy, 16000), atol=1e-4)

    (example,) = re.findall(
        r"```python\n(.*?)```", (BOXED["live"].parent / "CARD.md").read_text(), re.S
    )
    write(tmp_path / "noisy.wav", noisy, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "CARD.md", "exec"), {})
    live = audio.read_mono(tmp_path / "enhanced.wav")[0]
    assert len(live) == len(noisy)
    np.testing.assert_allclose(live, denoiser(noisy, 16000), atol=1e-3)


def test_live_use_runs_the_graph_beside_the_weights():
    pytest.importorskip("onnxruntime")
    denoiser, draw = gan_denoise.load("live", device=torch.device("cpu")), np.random.default_rng(0)
    assert isinstance(denoiser.live_generator, graph.Graph)
    wave = np.stack([speech_like(i, 4.0) for i in range(2)], axis=1).astype(np.float32)
    expected = whole(denoiser.generator, wave)
    for largest in (2000, len(wave)):  # of pieces that it takes at once, and of longer ones
        live = np.concatenate(in_pieces(denoiser.stream(channels=2), wave, draw, largest))
        np.testing.assert_allclose(live, expected, rtol=0.0, atol=1e-5)


def test_a_step_that_fails_loses_no_samples(monkeypatch):
    """A device that is out of memory, say: the caller may go on."""
    denoiser, wave = gan_denoise.load("live"), speech_like(0)[:, None].astype(np.float32)
    expected, live = denoiser.stream().push(wave), denoiser.stream()
    with monkeypatch.context() as patch:
        patch.setattr(denoiser.live_generator, "step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            live.push(wave[:5000].copy())
    np.testing.assert_array_equal(live.push(wave[5000:]), expected)


def test_a_push_that_fails_at_its_second_step_repeats_nothing(monkeypatch):
    denoiser, step_s = gan_denoise.load("live"), 0.5
    monkeypatch.setattr(streaming, "_STEP_S", step_s)
    wave = speech_like(0, 4 * step_s)[:, None].astype(np.float32)
    expected, live = denoiser.stream().push(wave), denoiser.stream()
    real, calls = denoiser.live_generator.step, itertools.count()

    def step(*inputs):
        return 1 / 0 if next(calls) == 1 else real(*inputs)

    monkeypatch.setattr(denoiser.live_generator, "step", step)
    with pytest.raises(ZeroDivisionError):
        live.push(wave[:-5000])
    np.testing.assert_array_equal(live.push(wave[-5000:]), expected)


def test_a_graph_is_that_of_the_weights_that_were_loaded(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(BOXED["live"], tmp_path / "a model")
    monkeypatch.chdir(tmp_path)
    before, wave = Denoiser.load("a model"), speech_like(0)[:, None].astype(np.float32)
    generator, about = load_model(folder)
    with torch.no_grad():
        generator.head.bias.add_(1e-3)
    save_model(folder, generator, about)  # as another training does
    monkeypatch.chdir(tmp_path.parent)
    assert isinstance(before.live_generator, graph.Graph)
    remedy = f"--overwrite '{folder}' '{folder}/model.onnx'"
    with pytest.raises(InputError, match=f"model.stream.onnx: is of another model .*{remedy}"):
        Denoiser.load(folder).stream()
    other = about["generator"] | {"level_ms": 512.0}  # which shapes no weight
    save_model(folder, before.generator, about | {"generator": other})
    with pytest.raises(InputError, match="is of another model"):
        Denoiser.load(folder).stream()
    (folder / graph.NAME).write_bytes((folder / graph.NAME).read_bytes()[:1000])
    with pytest.raises(InputError, match=r"onnxruntime .* cannot open it \(.*\): remove it"):
        Denoiser.load(folder).stream()
    with monkeypatch.context() as patch:  # it may be there for the sake of something else
        patch.setattr("onnxruntime.__version__", "1.16.3")
        denoiser = Denoiser.load(folder)
        assert denoiser.live_generator is denoiser.generator
        assert denoiser.live_note.startswith("onnxruntime 1.16.3 is too old")
    Denoiser.load(folder)(wave, 16000)  # files do without

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    denoiser = Denoiser.load(folder)
    assert denoiser.live_generator is denoiser.generator
    assert len(denoiser.stream().push(wave)) > 15000


def test_live_use_tells_nobody(tmp_path):
    """Onnxruntime would, and leaves traces in these folders."""
    pytest.importorskip("onnxruntime")
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(tmp_path))
    program = "import gan_denoise; print(type(gan_denoise.load().live_generator).__name__)"
    result = run("python", "-c", program, env=places, cwd=tmp_path)
    assert result.stdout == "Graph\n", result.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", ["hifigan", "segan"])
def test_every_kind_of_generator_exports(name, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    options = SMALL[name] | {"hifigan": {"scales": 1}, "segan": {"channels": [4, 8]}}[name]
    folder = save(tmp_path / "model", options, randomised(options))
    (line,) = export.export(folder, tmp_path / "a.onnx")  # which compares it with torch
    assert "differs from torch by at most" in line
    with pytest.raises(InputError, match="exists"):
        list(export.export(folder, tmp_path / "a.onnx"))
    with pytest.raises(InputError, match=r"name it a\.onnx"):
        list(export.export(folder, tmp_path / "a.bin"))
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(InputError, match=r"export needs torch 2\.13, found 2\.6\.0"):
        list(export.export(folder, tmp_path / "b.onnx"))


@pytest.mark.parametrize(("name", "generator"), [("live", "bands"), ("files", "ahead")])
def test_the_models_in_the_package_are_small_and_described(name, generator):
    assert (BOXED[name] / "model.safetensors").stat().st_size <= 4 * 2**20
    config = json.loads((BOXED[name] / "config.json").read_text())
    assert config["licence"] and config["generator"]["name"] == generator
    card = (BOXED[name].parent / "CARD.md").read_text()
    for words in ("## Data", "## Procedure", "## Figures", "## Licence", "## Limits"):
        assert words in card
    sounds = (BOXED[name].parent / "SOUNDS.txt").read_text()
    assert "freesound.org" in sounds  # whose sounds it learnt from
