"""Names of speakers as Kaldi wants them: utt2spk is in order of utterances and of speakers."""

from __future__ import annotations

from gan_denoise.datadir import c_sorted, speaker_ids
from gan_denoise.errors import InputError
from kaldi.corpora.listing import Recording


def kaldi_ids(recordings: list[Recording]) -> dict[str, str]:
    """Speaker -> spk_id such that Kaldi accepts the order of utt2spk.

    Raises InputError where no spk_id can do that.
    """
    names = {recording.speaker for recording in recordings}
    for ids in (dict(zip(names, names, strict=True)), speaker_ids(names)):
        # Recordings are sorted by utt_id
        order = [ids[recording.speaker] for recording in recordings]
        if order == c_sorted(order) and len(set(ids.values())) == len(names):
            return ids
    last = recordings[0].speaker
    closed: set[str] = set()
    for recording in recordings:
        if recording.speaker != last:
            if recording.speaker in closed:
                raise InputError(
                    f"{recording.clean}: sorted by utt_id, {last}'s recordings stand among those of"
                    f" {recording.speaker}, which Kaldi refuses: rename one of the two speakers"
                )
            closed.add(last)
            last = recording.speaker
    raise InputError(
        "the speakers' names do not sort as their recordings do, which Kaldi wants: give them equal"
        " lengths"
    )
