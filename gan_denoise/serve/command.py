"""gan-denoise serve: its options, and the process that listens."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import logging
import os
import socket
from pathlib import Path

from gan_denoise.errors import InputError
from gan_denoise.serve.limits import Limits
from gan_denoise.terminal import say

TOKEN_VARIABLE = "GAN_DENOISE_TOKEN"
_GRACE_S = 5  # for requests that are at work when the server is asked to end


def add_options(parser: argparse.ArgumentParser, positive) -> None:
    """positive: the type of a whole number from 1."""
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (127.0.0.1); others need --token"
    )
    parser.add_argument("--port", type=_port, default=8000, help="(8000); 0: any free one")
    parser.add_argument(
        "--token", metavar="TEXT", help=f"what clients must know (${TOKEN_VARIABLE})"
    )
    parser.add_argument(
        "--model",
        type=_named,
        action="append",
        metavar="NAME=DIR",
        help="again for several; the first is the default (boxed: the two of the package)",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="processes that work on files (1)"
    )
    for limit in dataclasses.fields(Limits):
        parser.add_argument(
            f"--{limit.name.replace('_', '-')}",
            type=positive,
            default=limit.default,
            metavar="N",
            help=f"{limit.metadata['help']} ({limit.default})",
        )


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises InputError for what cannot be served, OSError where the address is not to be had.
    """
    token = arguments.token or os.environ.get(TOKEN_VARIABLE) or None
    if not _loopback(arguments.host) and not token:
        raise InputError(
            f"--host {arguments.host}: others could use it: give a --token, or leave it out"
        )
    try:
        import uvicorn

        from gan_denoise.serve.app import LOOPBACK, create_app
        from gan_denoise.serve.live import LARGEST_MESSAGE
    except ModuleNotFoundError as error:
        raise InputError(
            f'serve needs more packages ({error.name}): pip install "gan_denoise[serve]"'
        ) from error
    limits = Limits(
        **{limit.name: getattr(arguments, limit.name) for limit in dataclasses.fields(Limits)}
    )
    models: dict[str, Path | None] = dict(arguments.model or [("boxed", None)])
    if len(models) < len(arguments.model or [()]):
        raise InputError("--model: two models have the same name: choose another for one of them")
    app = create_app(
        models,
        limits=limits,
        token=token,
        hosts=LOOPBACK | {arguments.host},
        device=arguments.device,
        jobs=arguments.jobs,
    )
    with _listen(arguments.host, arguments.port) as listener:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            ws_max_size=LARGEST_MESSAGE,
            ws_per_message_deflate=False,  # noise does not shrink, and what unpacks can be a bomb
            ws_ping_interval=None,  # --idle-timeout ends what is dead, and pongs may be late
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        logging.getLogger("uvicorn.error").addFilter(_one_line)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # bad forms are answered
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        say(f"serve: {url} with {', '.join(models)}; Ctrl-C ends it")
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"{host}:{port}: cannot listen there ({error.strerror}): choose another --port"
        ) from error


def _one_line(record: logging.LogRecord) -> bool:
    """What a client sends amiss is no bug of ours: without a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = None
    return True


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if (
        not equals
        or not folder
        or not name
        or not all(letter.isalnum() or letter in "._-" for letter in name)
    ):
        raise argparse.ArgumentTypeError(
            f"expected NAME=DIR, NAME of letters, digits, '.', '_', '-', found {text!r}"
        )
    return name, Path(folder)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, found {text!r}")
    return int(text)
