"""The mini corpus: laid out as VCTK 0.92, always the same recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

from conftest import LOCAL, ROOT, local, run
from gan_denoise import datadir


def test_the_mini_corpus_is_vctk_092(tmp_path: Path) -> None:
    import make_mini

    make_mini.make(tmp_path / "mini", 1, 4, 1)
    names = sorted(path.name for path in (tmp_path / "mini/wav48_silence_trimmed/p901").iterdir())
    assert names == [
        "p901_001_mic1.flac",
        "p901_002_mic1.flac",
        "p901_003_mic1.flac",
        "p901_025_mic1.flac",
    ]
    samples, rate = sf.read(
        tmp_path / "mini/wav48_silence_trimmed/p901/p901_025_mic1.flac", dtype="int16"
    )
    assert rate == 48000 and 1.0 < len(samples) / rate < 6.0
    assert (
        tmp_path / "mini/txt/p901/p901_025.txt"
    ).read_text() == make_mini.TEXT.read_text().splitlines()[3] + "\n"
    sentences = make_mini.TEXT.read_text().splitlines()
    assert (
        len(set(sentences))
        == len(sentences)
        == make_mini.SHARED + make_mini.MAX_OWN * len(make_mini.VOICES)
    )
    women = [gender for _, _, _, gender, _ in make_mini.VOICES].count("F")
    assert women == len(make_mini.VOICES) / 2


def test_every_recording_of_the_mini_corpus_is_always_the_same(tmp_path: Path) -> None:
    """The samples are always those of conf/mini_digests.txt.

    Voices are made side by side, and one by one in the opposite order and another locale.
    """
    import make_mini

    digests = datadir.read_table(make_mini.DIGESTS)
    assert len(digests) == 240
    assert make_mini.make(tmp_path / "one", 12, 20, 2) == digests
    program = "import sys; from pathlib import Path; import make_mini; "
    program += "print(make_mini.make_speaker((Path(sys.argv[1]), int(sys.argv[2]), 20)))"
    for index in (11, 7, 0):  # two that breathe, and one that does not
        environment = {
            "PYTHONPATH": f"{LOCAL}:{ROOT}",
            "LC_ALL": "C",
            "TZ": "Asia/Tokyo",
            "PADDING": "x" * 999 * index,
        }
        result = run("python", "-c", program, tmp_path / "two", index, env=environment)
        assert eval(result.stdout) == {
            key: value for key, value in digests.items() if key.startswith(f"p{901 + index}")
        }
    for path in (tmp_path / "two").rglob("*.flac"):
        other = tmp_path / "one" / path.relative_to(tmp_path / "two")
        np.testing.assert_array_equal(
            sf.read(path, dtype="int16")[0], sf.read(other, dtype="int16")[0]
        )


def test_a_mini_corpus_that_differs_is_said(tmp_path: Path) -> None:
    result = local("make_mini", "--voices", 1, "--sentences", 1, tmp_path / "mini")
    assert result.returncode == 0 and "WARNING" not in result.stderr
    changed = (
        (LOCAL / "make_mini.py")
        .read_text()
        .replace("SetRandSeed(ctypes.c_long(1))", "SetRandSeed(ctypes.c_long(2))")
    )
    changed = changed.replace("Path(__file__)", f"Path({str(LOCAL / 'make_mini.py')!r})")
    (tmp_path / "make_mini.py").write_text(changed)
    result = run(
        "python",
        tmp_path / "make_mini.py",
        "--voices",
        2,
        "--sentences",
        1,
        tmp_path / "other",
        env={"PYTHONPATH": str(LOCAL)},
    )
    assert "WARNING: 1 of 2 recordings" in result.stderr and "p902_001" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"mini", "other", "make_mini.py", ".lock"}
