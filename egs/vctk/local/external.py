#!/usr/bin/env python3
"""Stage 3 of other people's systems: folders of enhanced files take part as our own.

    external.py [--check] DATADIR EXP NAME=FOLDER...

writes EXP/NAME/enhanced.scp; --check refuses one that lists other files, and writes nothing.
FOLDER holds one file for every recording of DATADIR, of its utt_id, sample rate and length, mono,
in sub-folders as one likes.
"""

from __future__ import annotations

from pathlib import Path

import recipe_path  # noqa: F401
from gan_denoise import audio, datadir
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.system import ids, terminal
from gan_denoise.system.owner import owning
from gan_denoise.system.terminal import program, say
from kaldi.stage import list_files
from training.experiment import check_name


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument("data", type=Path, metavar="DATADIR", help="data directory of the test")
    parser.add_argument("exp", type=Path, metavar="EXP", help="folder of the experiments")
    parser.add_argument(
        "systems", nargs="+", metavar="NAME=FOLDER", help="a system, and its enhanced files"
    )
    parser.add_argument(
        "--check", action="store_true", help="only check that stage 3 has listed these folders"
    )
    arguments = parser.parse_args()
    systems = [words.partition("=")[0] for words in arguments.systems]
    for name in systems:
        if systems.count(name) > 1:
            raise InputError("--external", f"{name} is named twice", "choose another name for one")
    data = datadir.read(arguments.data, noisy=True)
    for words in arguments.systems:
        name, _, folder = words.partition("=")
        out = arguments.exp / name
        check_system(words, out)
        files = find_files(Path(folder), data)
        if arguments.check:
            check_listed(out / "enhanced.scp", files, words)
            continue
        with owning(out):
            list_files(out / "enhanced.scp", files)
        say(f"stage 3: {name}: {len(files)} files of {folder}")


def check_system(words: str, out: Path) -> None:
    """Refuse a name that means something else in EXP. Raises InputError."""
    name, equals, folder = words.partition("=")
    if not equals or not folder or not name or "/" in name or name.startswith("."):
        raise InputError("--external", f'expected NAME=FOLDER, found "{words}"')
    check_name(out)
    if "_seed" in name or (out / "model").exists() or (out / "checkpoint.pt").exists():
        raise InputError("--external", f"{name} is the name of a training here", "choose another")


def check_listed(listing: Path, files: dict[str, Path], words: str) -> None:
    """Refuse files that stage 3 has not listed. Raises InputError."""
    if not listing.is_file() or datadir.read_scp(listing) != files:
        raise InputError(
            "--external", f"{words}: stage 3 has listed other files, or none", "run --stage 3"
        )


def find_files(folder: Path, data: DataDir) -> dict[str, Path]:
    """utt_id -> file, in the order of the data, each like its noisy recording.

    Raises InputError.
    """
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "name a folder of enhanced files")
    files: dict[str, Path] = {}
    for path in audio.find(folder.absolute()):
        stem = ids.utt_id_of_file(path)
        utt_id = stem if stem in data.wav else ids.utt_id_below(path, folder.absolute())
        if utt_id in files:
            raise InputError(path, f"has the utt_id of {files[utt_id]}", "remove one of the two")
        files[utt_id] = path
    if missing := [utt_id for utt_id in data.utt_ids if utt_id not in files]:
        raise InputError(
            folder,
            f"has no file of {len(missing)} of {len(data)} test recordings, such as {missing[0]}",
            "name the files as those in noisy.scp",
        )
    for utt_id in data.utt_ids:
        with audio.Reader(files[utt_id]) as mine, audio.Reader(data.noisy[utt_id]) as noisy:
            for what in ("sample_rate", "channels", "frames"):
                if (is_here := getattr(mine, what)) != (needed := getattr(noisy, what)):
                    word = what.replace("_", " ")
                    problem = f"its {word} is {is_here}, not {needed} as its noisy recording's"
                    raise InputError(files[utt_id], problem, "convert it")
    return {utt_id: files[utt_id] for utt_id in data.utt_ids}


if __name__ == "__main__":
    main()
