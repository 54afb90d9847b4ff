"""utt_id: one name per recording, which is the same everywhere.

It decides which noise the recording gets.

It is the file's stem; VCTK's lose `_mic1`. A file in a sub-folder of what was named is prefixed by
the topmost folder's name, which is the speaker's in a corpus, and `_`, unless it begins with that.
A file that was named itself, or that lies directly in the folder that was named, is loose: it has
its stem, whatever that folder is called. An accent is one character in it (Unicode's NFC), whatever
the file system has made of it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from gan_denoise.errors import InputError


def utt_id_in_folder(path: Path, folder: Path) -> str:
    """The utt_id of a recording that belongs to `folder` (a speaker's, as a rule)."""
    stem, name = utt_id_of_file(path), one_form(folder.name)
    return stem if stem.startswith(f"{name}_") else f"{name}_{stem}"


def utt_id_of_file(path: Path) -> str:
    """The utt_id of a loose file.

    Raises InputError for a name that is not UTF-8, which no table can hold.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{os.fsencode(path)!r}: the file's name is not UTF-8: rename it"
        ) from error
    return one_form(path.stem).removesuffix("_mic1")


def one_form(name: str) -> str:
    """A name in the form in which it is compared with others.

    File systems and editors differ in how they write accents.
    """
    return unicodedata.normalize("NFC", name)


def is_line(text: str) -> bool:
    """Whether it holds no control character, so that it can stand in a table and name a file."""
    return not any(unicodedata.category(character) == "Cc" for character in text)


def is_word(name: str) -> bool:
    """Whether it holds neither blanks nor control characters, as a key of a table must."""
    return is_line(name) and not re.search(r"\s", name)


def is_path(utt_id: str) -> bool:
    """Whether a file called after it could lie elsewhere than beside the others, or be hidden."""
    return "/" in utt_id or utt_id.startswith(".")


def utt_id_below(path: Path, root: Path) -> str:
    """The utt_id of a recording found somewhere below `root`, the folder that was named."""
    # Not resolved: a linked file belongs to the folder of the link
    parts = path.relative_to(root).parts
    return utt_id_in_folder(path, root / parts[0]) if len(parts) > 1 else utt_id_of_file(path)
