"""What the service refuses, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gan_denoise.errors import InputError

SAMPLE_RATES_HZ = (1000, 768000)  # beyond, a resampler needs gigabytes


def _limit(default: float, what: str) -> Any:
    return field(default=default, metadata={"help": what})


@dataclass(frozen=True)
class Limits:
    """Each is an option of `gan-denoise serve`, with the help text that stands here."""

    max_upload_mb: int = _limit(1024, "size of the largest file, in MiB")
    max_duration: int = _limit(
        14400,
        "length of the longest file, in seconds, all channels added up, each as a second at least",
    )
    max_channels: int = _limit(32, "largest number of channels of a file")
    max_streams: int = _limit(48, "number of live streams at once; more are refused")
    max_load: int = _limit(
        85, "largest percentage of its time that the server is busy; above it no new stream"
    )
    max_connections: int = _limit(256, "number of connections at once; idle ones are closed first")
    max_files: int = _limit(
        8, "number of files arriving, waiting or worked on at once; more are refused"
    )
    idle_timeout: int = _limit(30, "seconds in which a client may neither send nor receive")
    max_head_time: int = _limit(10, "seconds from a connection to its first whole request")
    max_request_time: int = _limit(
        1800, "seconds that a file may take to arrive; the work on it may take as many again"
    )
    max_stream_time: int = _limit(14400, "seconds that a live stream may last")


LATER = "try again in a while"


class Refused(Exception):
    """A request that is answered with a status and one line of JSON: {"error": message}.

    error: of a file, the client's name for it stands where its path would.
    """

    def __init__(self, status: int, error: InputError | str, **headers: str):
        self.error = error if isinstance(error, InputError) else InputError(error)
        self.status, self.message = status, str(self.error)
        super().__init__(self.message)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
