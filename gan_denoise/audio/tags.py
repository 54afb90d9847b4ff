"""What an audio file holds beside its samples: the chunks of WAV, the tags of other formats.

A file that is made from another one gets them, as far as its format has a place for them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from gan_denoise.audio import riff
from gan_denoise.audio.decoding import DEMUXERS
from gan_denoise.errors import InputError

# Of the samples themselves, or of nothing; `levl` draws them as they were
_OWN = {b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"levl", b"JUNK", b"junk", b"FLLR", b"PAD "}
# In the chunk `fmt ` of a WAVEX file, and the mask that is meant where none is named
_WAVEX, _MASK_AT = 0xFFFE, 20
_USUAL = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
# The program that wrote the file: the new one has its own
_ENCODERS = {"encoder", "tsse", "\xa9too", "wm/encodingsettings"}
# What FFmpeg tells of the container and the stream
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "language", "handler_name"}
_TECHNICAL |= {"duration", "vendor_id", "creation_time", "timecode", "com.android.version"}
_APE_FOOTER, _ID3V1 = 32, 128  # bytes
WITHOUT_MUTAGEN = "the input's tags"  # what is lost where that package is not there
_LARGEST, _COPIED_AT_ONCE = 2**28, 2**20  # bytes of all chunks; others are no chunks


def keep(source: Path, target: BinaryIO) -> list[str]:
    """Give a whole audio file what `source` has beside its samples.

    Returns the names of what is lost. Raises InputError for tags that cannot be kept, OSError where
    they cannot be written.
    """
    target.seek(0)
    into_riff = target.read(4) in (b"RIFF", b"RF64")
    wav = riff.layout(source)
    if wav is None:
        return _keep_tags(source, None if into_riff else target)
    with open(source, "rb") as file:
        extras = [
            (name, at, size)
            for name, at, size in wav.chunks
            if name not in _OWN and not _encoder(file, at, size)
        ]
        lost = _names(extras)
        same_order = wav.order == "<"  # else the numbers within the chunks are turned round
        if into_riff and same_order and sum(size for *_, size in extras) <= _LARGEST:
            lost = [] if _keep_chunks(file, extras, target) else lost
        kept = not same_order or _keep_mask(file, target if into_riff else None)
        return lost if kept else [*lost, "channel mask"]


def _encoder(file: BinaryIO, at: int, size: int) -> bool:
    """Whether a chunk tells nothing but the program that wrote it."""
    file.seek(at)
    head = file.read(12)
    return head[:8] == b"INFOISFT" and size <= 13 + int.from_bytes(head[8:], "little")


def _names(extras: list[tuple[bytes, int, int]]) -> list[str]:
    return sorted({name.decode("ascii").strip() for name, *_ in extras})


def _keep_chunks(file: BinaryIO, extras: list[tuple[bytes, int, int]], target: BinaryIO) -> bool:
    """Behind the samples; False where the file would be too long for its own size."""
    target.seek(0, 2)
    start = end = target.tell()
    pieces = [(name, at, size) for name, at, size in extras if at + size <= file.seek(0, 2)]
    for *_, size in pieces:
        end += 8 + size + size % 2
    target.seek(0)
    long = target.read(4) == b"RF64"
    if end + start % 2 - 8 >= 2**32 - 1 and not long:
        return False
    target.seek(start)
    target.write(bytes(start % 2))
    for name, at, size in pieces:
        target.write(struct.pack("<4sI", name, size))
        file.seek(at)
        for begin in range(0, size, _COPIED_AT_ONCE):
            target.write(file.read(min(_COPIED_AT_ONCE, size - begin)))
        target.write(bytes(size % 2))
    length = target.tell() - 8
    target.seek(20 if long else 4)  # RF64: in its first chunk, ds64
    target.write(struct.pack("<Q" if long else "<I", length))
    return len(pieces) == len(extras)


def _keep_mask(file: BinaryIO, target: BinaryIO | None) -> bool:
    """Which loudspeaker each channel is for; False where that is lost, and is not as usual."""
    theirs, ours = _mask(file), _mask(target) if target else None
    if theirs and ours and target:
        target.seek(ours[0])
        target.write(struct.pack("<I", theirs[2]))
        return True
    return not theirs or theirs[2] in (0, _USUAL.get(theirs[1]))


def _mask(file: BinaryIO) -> tuple[int, int, int] | None:
    """The place of a WAVEX file's mask, its number of channels, the mask."""
    for name, at, size in riff.front(file)[0]:
        if name == b"fmt " and size >= _MASK_AT + 4:
            file.seek(at)
            kind, channels, mask = struct.unpack("<HH16xI", file.read(_MASK_AT + 4))
            return (at + _MASK_AT, channels, mask) if kind == _WAVEX else None
    return None


def _keep_tags(source: Path, target: BinaryIO | None) -> list[str]:
    """Tags of formats other than WAV. target: None where it has no place for them."""
    try:
        import mutagen  # an extra, since it is under the GPL
        from mutagen.apev2 import APEv2
    except ImportError:
        lost = _as_ffmpeg_reads(source) + (["APEv2 tags"] if _ends_with_ape(source) else [])
        return [WITHOUT_MUTAGEN] if lost and target else lost
    try:
        theirs: Any = mutagen.File(source)
    except mutagen.MutagenError:  # nobody can read them
        return ["tags"]
    words: Any = getattr(theirs, "tags", None) or {}
    pictures = list(getattr(theirs, "pictures", ()))
    said = {key.lower() for key in dict(words)} - _ENCODERS
    lost = (["tags"] if said else []) + (["pictures"] if pictures else [])
    lost = lost or _as_ffmpeg_reads(source)
    unseen = _ends_with_ape(source) and not isinstance(words, APEv2)
    ape = ["APEv2 tags"] if unseen else []
    if not said and not pictures or target is None:
        return lost + ape
    try:
        return _copy_tags(theirs, words, pictures, target, lost) + ape
    except mutagen.MutagenError as error:
        if isinstance(cause := error.__cause__ or error.__context__, OSError):
            raise cause from error
        raise InputError(source, f"its tags cannot be kept ({error})", "remove them") from error


def _copy_tags(
    theirs: Any, words: Any, pictures: list[Any], target: BinaryIO, lost: list[str]
) -> list[str]:
    """What mutagen has read, into the target. lost: what is, if that has no place for it."""
    import mutagen

    target.seek(0)
    ours: Any = mutagen.File(target)
    if type(ours) is type(theirs) and not hasattr(words, "vendor"):  # ID3
        target.seek(0)
        words.save(target)
        return []
    if not (hasattr(getattr(ours, "tags", None), "vendor") and hasattr(words, "vendor")):
        return lost
    # Vorbis comments, of FLAC and OGG
    ours.tags.extend((key, word) for key, word in words if key.lower() not in _ENCODERS)
    if hasattr(ours, "add_picture"):
        for picture in pictures:
            ours.add_picture(picture)
        ours.cuesheet, pictures = getattr(theirs, "cuesheet", None), []
    target.seek(0)
    ours.save(target)
    return ["pictures"] if pictures else []


def _as_ffmpeg_reads(source: Path) -> list[str]:
    """The names of what a file holds beside its samples, in formats that mutagen does not know."""
    import av

    try:
        options = {"format_whitelist": DEMUXERS}
        with av.open(f"file:{source.absolute()}", options=options) as container:
            words = [container.metadata, *(stream.metadata for stream in container.streams.audio)]
            said = {key.lower() for one in words for key in one} - _ENCODERS - _TECHNICAL
            return (["tags"] if said else []) + (["pictures"] if _pictured(container) else [])
    except (av.FFmpegError, OSError, ValueError):  # it does not know the format
        return []


def _pictured(container: Any) -> bool:
    import av

    covers = (
        stream.disposition & av.stream.Disposition.attached_pic for stream in container.streams
    )
    return any(covers) or bool(container.streams.attachments)


def _ends_with_ape(source: Path) -> bool:
    """Whether an APEv2 tag ends the file, before an ID3v1 tag or not: in MP3, and in AAC."""
    with open(source, "rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - _APE_FOOTER - _ID3V1))
        tail = file.read()
    return any(tail[at:].startswith(b"APETAGEX") for at in (0, len(tail) - _APE_FOOTER))
