"""What every program of the project shows to people: progress with time left, one-line errors, exit statuses."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from gan_denoise.errors import InputError, os_error_line

Item = TypeVar("Item")
_LINE_EVERY_S = 20.0


def progress(items: Iterable[Item], *, total: int, label: str, unit: str = "files") -> Iterator[Item]:
    """Pass items through and show on standard error how far they are: a bar on a terminal, plain lines in a log."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, unit=f" {unit}", dynamic_ncols=True, leave=False)
        return
    started = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown > _LINE_EVERY_S and done < total:
            shown = now
            left_s = (now - started) / done * (total - done)
            say(f"{label}: {done}/{total} {unit}, {clock(left_s)} left")


def say(line: str) -> None:
    """One line on standard error, beside what a program writes to standard output; it does not tear a progress bar."""
    tqdm.write(line, file=sys.stderr)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def program(main: Callable[[], int | None]) -> Callable[[], None]:
    """Make `main` a program: it exits with what main returns (None is 0), with one line and 1 for bad input.

    A traceback is shown for our own bugs only. Interrupted (Ctrl-C): 130. A reader that went away (`| head`): 141.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            status = main() or 0
            sys.stdout.flush()
        except InputError as error:
            status = fail(str(error))
        except BrokenPipeError:
            sys.stderr.close()
            status = 141
        except OSError as error:
            status = fail(os_error_line(error))
        except KeyboardInterrupt:
            say("interrupted")
            status = 130
        sys.exit(status)

    return run


def fail(message: str) -> int:
    """Say what is wrong on standard error, on one line; returns the exit status 1."""
    say(f"error: {' '.join(message.split())}")
    return 1
