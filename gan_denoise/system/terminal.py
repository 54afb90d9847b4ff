"""What every program of the project shows to people.

That is progress with the time left, one-line errors, and exit statuses.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from gan_denoise.errors import BeginAgain, InputError, nearest, os_error_line
from gan_denoise.system.family import follow_the_launcher
from gan_denoise.system.place import check_place

Item = TypeVar("Item")
_LINE_EVERY_S = 20.0
_SIGNAL_STATUS = 128  # plus the signal's number, as shells have it


def progress(
    items: Iterable[Item], *, total: int, label: str, unit: str = "files"
) -> Iterator[Item]:
    """Pass items through and show on standard error how far they are.

    A terminal gets a bar, a log plain lines.
    """
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(
            items, total=total, desc=label, unit=f" {unit}", dynamic_ncols=True, leave=False
        )
        return
    started = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown > _LINE_EVERY_S and done < total:
            shown = now
            left_s = (now - started) / done * (total - done)
            say(f"{label}: {done}/{total} {unit}, {clock(left_s)} left")


class Parser(argparse.ArgumentParser):
    """Takes no abbreviations, and says wrong usage in one line, as every other error."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        arguments, unknown = self.parse_known_args(args, namespace)
        self.refuse(unknown)
        return arguments

    def refuse(self, unknown: list[str]) -> None:
        """Leave the program where there are words that no option and no argument takes."""
        if not unknown:
            return
        word = unknown[0].partition("=")[0]
        self.error(
            f"unknown option {word}{nearest(word, self._option_string_actions)}"
            if word.startswith("-")
            else f"unexpected argument {word!r}"
        )

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        say(f"error: {message} ({self.prog} --help lists the options)")
        self.exit(2)


class Command(Parser):
    """One of several commands of a program, which does not know their options."""

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        arguments, unknown = super().parse_known_args(args, namespace)
        self.refuse(unknown)
        return arguments, unknown


def parser(description: str | None) -> Parser:
    """What all programs of the recipe start from: their docstring is their help."""
    return Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def say(line: str) -> None:
    """Print one line on standard error, beside what a program writes to standard output.

    The line does not tear a progress bar. Where standard error is closed, full or gone, the line is
    lost and the work goes on.
    """
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)
        sys.stderr.flush()


def tell(*lines: str) -> None:
    """Print lines on standard output, as the result of a program.

    Raises OSError where they cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = "standard output"
        raise


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: what is half written is removed on the way out."""

    def __init__(self, number: int):
        self.number = number


def program(main: Callable[[], int | None]) -> Callable[[], None]:
    """Make `main` a program, which exits with what main returns (None is 0).

    For bad input it prints one line and exits with 1. Where main raises BeginAgain, it begins
    again.

    A traceback is shown for our own bugs only. Interrupted (Ctrl-C): 130. Terminated (SIGTERM,
    SIGHUP): 143, 129. A reader that went away (`| head`): 141. Standard streams may be closed, and
    the locale may be any.
    """

    @functools.wraps(main)
    def run() -> None:
        _prepare()
        try:
            check_place(Path(main.__code__.co_filename))
            status = _through(main) or 0
            tell()
        except InputError as error:
            status = fail(str(error))
        except BrokenPipeError:
            _forget_stdout()
            status = 141
        except OSError as error:
            status = fail(os_error_line(error))
            _forget_stdout()
        except KeyboardInterrupt:
            say("interrupted")
            status = 130
        except Terminated as signalled:
            say(f"terminated ({signal.Signals(signalled.number).name})")
            status = _SIGNAL_STATUS + signalled.number
        sys.exit(status)

    return run


def _through(main: Callable[[], int | None]) -> int | None:
    """What main returns when nothing was in its way any more."""
    while True:
        with contextlib.suppress(BeginAgain):
            return main()


def _prepare() -> None:
    """Make the process's surroundings what the program expects."""
    # The search for cycles in what ends anyway takes half a second once torch is loaded
    atexit.register(gc.freeze)
    # LC_ALL=C without UTF-8 mode: names would not be what they are
    if sys.getfilesystemencoding() != "utf-8":
        os.execve(
            sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"}
        )
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    # A closed one: no file of ours may take its place
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    follow_the_launcher()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Under nohup SIGHUP is ignored, and stays so
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, terminate)


def terminate(number: int, frame: FrameType | None) -> None:
    """A signal's handler: leave through every `finally`."""
    signal.signal(number, signal.SIG_IGN)  # timeout and shells may send it twice
    raise Terminated(number)


def _forget_stdout() -> None:
    """What could not be written may not be tried again when Python ends."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str) -> int:
    """Say what is wrong on standard error, on one line; returns the exit status 1."""
    say(f"error: {' '.join(message.split())}")
    return 1
