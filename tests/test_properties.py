"""Properties of enhance for any file (hypothesis).

It keeps length, rate and channels, or answers in one line.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import cli
from gan_denoise import audio, generators
from gan_denoise.config import dump_yaml, parse_yaml
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError
from gan_denoise.generators import causal
from small_models import SMALL


def examples(count: int) -> settings:
    """The same ones at every run."""
    unchecked = [HealthCheck.function_scoped_fixture]  # a folder may be used again
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=unchecked,
    )


SUBTYPES = [
    *(
        ("wav", subtype)
        for subtype in sf.available_subtypes("WAV")
        if subtype not in ("MPEG_LAYER_III",)
    ),
    *(("flac", subtype) for subtype in sf.available_subtypes("FLAC")),
    ("ogg", "VORBIS"),
    ("mp3", "MPEG_LAYER_III"),
]
RATES = st.sampled_from([1000, 8000, 11025, 16000, 22050, 44100, 48000, 96000])
LENGTHS = st.one_of(
    st.integers(1, 20), st.sampled_from([255, 256, 257, 511, 512, 513]), st.integers(1, 6000)
)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    generator = generators.build(SMALL["causal"], sample_rate=16000)
    assert isinstance(generator, causal.Generator)
    torch.nn.init.zeros_(generator.head.weight)
    return Denoiser(generator, 16000)


def wave(length: int, channels: int, seed: int) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal((length, channels))


def written(path: Path, samples: np.ndarray, rate: int, subtype: str) -> bool:
    """Whether libsndfile can write this file."""
    try:
        sf.write(path, samples, rate, subtype=subtype)
        return True
    except (sf.LibsndfileError, RuntimeError):
        path.unlink(missing_ok=True)
        return False


@examples(150)
@given(st.sampled_from(SUBTYPES), RATES, st.integers(1, 3), LENGTHS, st.integers(0, 99))
def test_enhance_keeps_length_rate_and_channels(
    denoiser: Denoiser, tmp_path: Path, kind: Any, rate: int, channels: int, length: int, seed: int
) -> None:
    suffix, subtype = kind
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    if suffix == "ogg" and rate < 8000 and length % 256 == 0:
        return  # FFmpeg leaves out the last block of these
    if not written(source, wave(length, channels, seed), rate, subtype):
        return
    samples, _ = audio.read(source)
    assert len(samples) == length or subtype not in (
        "PCM_16",
        "PCM_24",
        "PCM_32",
        "PCM_U8",
        "FLOAT",
        "DOUBLE",
    )
    for mix in (1.0, 0.0):
        notes = enhance_file(denoiser, source, target, mix=mix, high_band="keep")
        after, rate_after = audio.read(target)
        assert (after.shape, rate_after) == (samples.shape, rate)
    assert sf.info(target).subtype == subtype or any(subtype in note for note in notes)


@examples(60)
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x03", b"\xff\xfb\x90", b"FORM"]),
)
def test_any_bytes_are_audio_or_one_line(
    denoiser: Denoiser, tmp_path: Path, content: Any, begin: Any
) -> None:
    (tmp_path / "a.wav").write_bytes(begin + content)
    try:
        enhance_file(denoiser, tmp_path / "a.wav", tmp_path / "b.wav")
    except InputError as error:
        assert str(error).startswith(f"{tmp_path}/a.wav: ") and "\n" not in str(error)
        assert not (tmp_path / "b.wav").exists()


@examples(100)
@given(st.sampled_from(SUBTYPES), st.integers(0, 2000), st.integers(0, 255), st.integers(0, 8))
def test_a_spoiled_header_is_one_line_or_as_long_as_it_was(
    denoiser: Denoiser, tmp_path: Path, kind: Any, place: int, value: int, cut: int
) -> None:
    suffix, subtype = kind
    source = tmp_path / f"in.{suffix}"
    if not written(source, wave(2000, 1, 0), 8000, subtype):
        return
    content = bytearray(source.read_bytes())
    content[place % len(content)] = value
    source.write_bytes(content[: len(content) - cut])
    try:
        enhance_file(denoiser, source, tmp_path / "out.wav")
    except InputError as error:
        assert str(source) in str(error) or str(tmp_path / "out.wav") in str(error)
        assert "\n" not in str(error)


@examples(40)
@given(
    st.sampled_from(["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"]),
    st.sampled_from([0, 2**31 - 1, 2**31, 2**32 - 1]),
    LENGTHS,
    st.integers(1, 3),
)
def test_a_pipes_header_hides_no_sample(
    tmp_path: Path, subtype: str, size: int, length: int, channels: int
) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, wave(length, channels, 0), 16000, subtype=subtype)
    expected, _ = audio.read(path)
    content = bytearray(path.read_bytes())
    data = content.index(b"data") + 4
    # Without padding
    content = content[: data + 4 + int.from_bytes(content[data : data + 4], "little")]
    content[4:8] = content[data : data + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    np.testing.assert_array_equal(audio.read(path)[0], expected)


@examples(40)
@given(
    st.lists(st.integers(0, 1500), max_size=12),
    RATES,
    st.integers(1, 2),
    st.sampled_from(["<f4", ">f8", "<i2", ">i4"]),
)
def test_a_stream_gives_back_as_many_samples_in_any_pieces(
    denoiser: Denoiser, sizes: Any, rate: int, channels: int, dtype: Any
) -> None:
    stream, received, emitted = denoiser.stream(rate, channels), 0, 0
    for seed, size in enumerate(sizes):
        samples = wave(size, channels, seed)
        full_scale = 1.0 if dtype[1] == "f" else 2.0 ** (8 * int(dtype[2]) - 1) - 1
        emitted += len(stream.push((samples.clip(-1, 1) * full_scale).astype(dtype)))
        received += size
        assert emitted <= received
    assert emitted + len(stream.flush()) == received


@examples(300)
@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(10**15), 10**15),
            st.floats(allow_nan=False),
            st.text(st.characters(exclude_categories=["Cs", "Cc"])),
            st.text("0123456789abcdefx_:.+-~", max_size=12),  # digests and the like
            st.sampled_from(
                [
                    "668531744e70",
                    "089123456789",
                    "1_000",
                    "1:30",
                    "yes",
                    "null",
                    "0x1F",
                    "010",
                    ".5",
                    "1.",
                ]
            ),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=5,
    )
)
def test_what_is_written_as_yaml_is_read_as_the_same(value: Any) -> None:
    """A digest such as 668531744e70 came back as a number."""
    assert parse_yaml(dump_yaml({"value": value}), "test") == {"value": value}


NAMES = st.one_of(
    st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
    ),
    st.sampled_from([
        "-rf", "--jobs", "a b", " a", "a ", "a\nb", "a\tb", "'", '"', "$(x)", "%s%n", "{0}", "*",
        "日本語", "é", "e\u0301", "a.b.c", "CON", "~", "#", "a=b", "\u202egpj", "😀", "x" * 240,
        "\x7f", "&amp;", "._x", ".hidden",
    ]),
)  # fmt: skip


@examples(60)
@given(NAMES, st.sampled_from([".wav", ".WAV", ".Flac", ".ogg"]))
def test_any_name_is_taken_or_left_out_by_its_first_dot(
    model_of_a_file: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    name: Any,
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("names")
    path = folder / "in" / f"{name}{suffix}"
    if len(os.fsencode(path.name)) > 255 or name in (".", ".."):
        return
    path.parent.mkdir()
    path.write_bytes(model_of_a_file[suffix.lower()])
    result = cli("enhance", "--mix", 0, folder / "in", folder / "out")
    assert "Traceback" not in result.stderr
    if name.startswith("."):
        assert result.returncode == 1 and "holds no audio files" in result.stderr
        return
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (folder / "out").iterdir()] == [path.name]
    again = cli("enhance", "--mix", 0, path, folder / "out")  # named by itself, into the folder
    assert again.returncode == 1 and again.stderr.count("\n") == 1 and "exists" in again.stderr


@pytest.fixture(scope="module")
def model_of_a_file(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("kinds")
    contents = {}
    for suffix in (".wav", ".flac", ".ogg"):
        sf.write(folder / f"a{suffix}", wave(100, 1, 0), 16000)
        contents[suffix] = (folder / f"a{suffix}").read_bytes()
    return contents


def test_links_loops_and_what_is_hidden(tmp_path: Path) -> None:
    sf.write(tmp_path / "elsewhere.wav", wave(100, 1, 0), 16000)
    tree = tmp_path / "in"
    (tree / "sub/.hidden").mkdir(parents=True)
    (tree / "linked.wav").symlink_to(tmp_path / "elsewhere.wav")
    (tree / "dangling.wav").symlink_to(tmp_path / "absent.wav")
    (tree / "self.wav").symlink_to("self.wav")
    (tree / "sub/loop").symlink_to(tree)
    (tree / "sub/.hidden/a.wav").write_bytes(b"")
    (tree / "sub/._a.wav").write_bytes(b"\0" * 100)  # as macOS leaves them
    (tree / "folder.wav").mkdir()
    for name in (
        "2024/01/rec.wav",
        "2024/02/rec.wav",
        "s.wav",
        "s.flac",
        "a/b_1.wav",
        "a_b/1.wav",
        "x_mic1.wav",
        "x.wav",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tree / name, wave(100, 1, 0), 16000)
    result = cli("enhance", "--mix", 0, tree, tmp_path / "out")
    assert result.returncode == 0 and "9 of 9 files done" in result.stderr, result.stderr
    outputs = sorted(
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    )
    assert outputs == sorted(
        [
            "2024/01/rec.wav",
            "2024/02/rec.wav",
            "a/b_1.wav",
            "a_b/1.wav",
            "linked.wav",
            "s.flac",
            "s.wav",
            "x.wav",
            "x_mic1.wav",
        ]
    )
    corrupted = cli("corrupt", tree, tmp_path / "noisy")  # which needs utt_ids
    assert (
        corrupted.returncode == 1
        and "has the same utt_id" in corrupted.stderr
        and corrupted.stderr.count("rec.wav") == 2
    )
