#!/usr/bin/env python3
"""Make a page to hear systems side by side or rank them blind: one HTML file that opens offline.

    samples.py [--title TEXT] [--note FILE] [--blind] [--jobs N] PAGE.html CONDITION...

A CONDITION is a folder that holds `clean/`, `noisy/` and a folder for each system, with files of
the same names. The page names the condition as its folder, and plays the recordings that `clean/`
has. To add a system, add a folder.
"""

from __future__ import annotations

from pathlib import Path

from gan_denoise import audio, scoring
from gan_denoise.errors import InputError
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.ids import utt_id_below
from gan_denoise.system.terminal import program, progress, say
from reporting.listening import REFERENCE, SCORES, Utterance, in_words, render_listening


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--title", default="Samples", metavar="TEXT", help="heading of the page (default Samples)"
    )
    parser.add_argument(
        "--note",
        type=Path,
        metavar="FILE",
        help="text for the end of the page, such as whose recordings it plays",
    )
    parser.add_argument(
        "--blind",
        action="store_true",
        help="open the page with letters instead of the systems' names",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="number of processes (default 1)"
    )
    parser.add_argument("page", type=Path, metavar="PAGE.html", help="file to write")
    parser.add_argument(
        "conditions",
        type=Path,
        nargs="+",
        metavar="CONDITION",
        help="folder of recordings, as above",
    )
    arguments = parser.parse_args()
    utterances = [
        utterance
        for folder in arguments.conditions
        for utterance in read_condition(folder, jobs=arguments.jobs)
    ]
    note = arguments.note.read_text(encoding="utf-8") if arguments.note else ""
    page = render_listening(
        utterances, title=arguments.title, note=note.strip(), blind=arguments.blind
    )
    write_atomically(arguments.page, page)
    say(f"{arguments.page}: {len(utterances)} players, {len(page) / 1e6:.1f} MB")


def read_condition(folder: Path, *, jobs: int) -> list[Utterance]:
    """The utterances of a condition's folder, with their scores.

    Raises InputError where a system lacks one.
    """
    names = sorted(path.name for path in folder.glob("*/") if path.is_dir())
    for name in (REFERENCE, "noisy"):
        if name not in names:
            raise InputError(folder, f"has no folder {name}", "put those recordings there")
    names.sort(key=lambda name: (name != REFERENCE, name != "noisy"))
    files = {name: recordings(folder / name) for name in names}
    utt_ids = sorted(files[REFERENCE])
    for name in names:
        if lacking := [utt_id for utt_id in utt_ids if utt_id not in files[name]]:
            problem = f"has no {lacking[0]}, which {folder / REFERENCE} has"
            raise InputError(folder / name, problem, "enhance it, or take it from there")
    scores = {REFERENCE: dict.fromkeys(utt_ids, "reference")}
    for name in names[1:]:
        pairs = [
            scoring.Pair(utt_id, files[REFERENCE][utt_id], files[name][utt_id])
            for utt_id in utt_ids
        ]
        rows = scoring.score(pairs, jobs=jobs, metrics=SCORES)
        rows = progress(rows, total=len(pairs), label=f"{folder.name}, {name}", unit="utterances")
        scores[name] = {row["utt_id"]: in_words(row) for row in rows}
    return [
        Utterance(
            utt_id,
            folder.name,
            {name: files[name][utt_id] for name in names},
            {name: scores[name][utt_id] for name in names},
        )
        for utt_id in utt_ids
    ]


def recordings(folder: Path) -> dict[str, Path]:
    """Its audio files, by utt_id. Raises InputError where there is none."""
    paths = audio.find(folder)
    if not paths:
        raise InputError(folder, "holds no audio files", "put those recordings there")
    return {utt_id_below(path, folder): path for path in paths}


if __name__ == "__main__":
    main()
