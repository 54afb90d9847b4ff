"""Whom a model has met in training: MODEL/trained_on.txt, and who of a test is among them.

A model may be tested on another corpus than its own, start from another model, or learn from one;
a test that holds what it was trained on then says too much of it. Names and recordings are kept as
salted digests: who has a name or a recording can ask for it, and nobody reads a list of people.

    salt S
    speaker SHA-256(S, spk_id)
    recording SHA-256(S, digest of the clean file)

What a model started from, or learnt from, follows with salts of its own.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from pathlib import Path

from gan_denoise.datadir import DataDir
from gan_denoise.provenance.inputs import file_digests
from gan_denoise.system.files import write_atomically

NAME = "trained_on.txt"
_DIGITS = 12
_NAMED = 3


def people(train: DataDir, before: Iterable[Path] = (), *, jobs: int = 1) -> str:
    """The text of trained_on.txt. before: model directories that this one owes something to."""
    salt = secrets.token_hex(4)
    recordings = file_digests(train.wav, jobs=jobs).values()
    lines = [f"salt {salt}"]
    lines += sorted(f"speaker {_salted(salt, name)}" for name in set(train.utt2spk.values()))
    lines += sorted({f"recording {_salted(salt, content)}" for content in recordings if content})
    text = "".join(f"{line}\n" for line in lines)
    return text + "".join(map(read, before))


def read(folder: Path) -> str:
    """The text of a model directory's; "" where it has none."""
    path = folder / NAME
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def write(folder: Path, text: str) -> None:
    """Put it into a model directory, if there is anything to say."""
    if text:
        write_atomically(folder / NAME, text)


def met(model: Path, data: DataDir, *, jobs: int = 1) -> str:
    """What of a data directory a model was trained on, in words; "": nothing that is known."""
    text = read(model)
    if not text:
        return ""
    speakers, recordings = set(), set()
    contents = file_digests(data.wav, jobs=jobs)
    salt = ""
    blocks: dict[str, set[str]] = {}
    for line in text.split("\n"):
        kind, _, value = line.partition(" ")
        if kind == "salt":
            salt = value
        elif value:
            blocks.setdefault(salt, set()).add(line)
    for salt, lines in blocks.items():
        speakers |= {name for name in data.spk2utt if f"speaker {_salted(salt, name)}" in lines}
        recordings |= {
            utt_id
            for utt_id, content in contents.items()
            if content and f"recording {_salted(salt, content)}" in lines
        }
    parts = [
        f"{len(shared)} of these {total} {what} ({', '.join(sorted(shared)[:_NAMED])}"
        f"{', ...' if len(shared) > _NAMED else ''})"
        for shared, total, what in (
            (speakers, len(data.spk2utt), "speakers, by their names"),
            (recordings, len(data), "recordings"),
        )
        if shared
    ]
    return " and ".join(parts)


def _salted(salt: str, value: str) -> str:
    return hashlib.sha256(f"{salt} {value}".encode()).hexdigest()[:_DIGITS]
