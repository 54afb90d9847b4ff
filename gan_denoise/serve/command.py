"""gan-denoise serve: its options, and the process that listens."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import os
import socket
from pathlib import Path

from gan_denoise.commands.arguments import DEVICE, positive
from gan_denoise.errors import InputError
from gan_denoise.packaged import MODELS
from gan_denoise.serve import log
from gan_denoise.serve.limits import Limits

TOKEN_VARIABLE = "GAN_DENOISE_TOKEN"


def add(commands: argparse._SubParsersAction) -> None:
    """Its parser, among those of the other commands."""
    parser = commands.add_parser(
        "serve",
        help="serve a web page, and an HTTP interface for programs",
        description=(
            "Serve a web page, and an HTTP and WebSocket interface for programs, until Ctrl-C."
        ),
    )
    parser.set_defaults(run=run)
    _add_access(parser)
    _add_work(parser)
    for limit in dataclasses.fields(Limits):
        parser.add_argument(
            f"--{limit.name.replace('_', '-')}",
            type=positive,
            default=limit.default,
            metavar="N",
            help=f"{limit.metadata['help']} (default {limit.default})",
        )


def _add_access(parser: argparse.ArgumentParser) -> None:
    """Where it listens, and to whom."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to listen on (default 127.0.0.1); any but this machine's own needs --token",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8000,
        metavar="PORT",
        help="port to listen on (default 8000); 0 takes any free one",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another host name that requests may ask for, such as the proxy's; may be repeated",
    )
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help=(
            f"secret text that clients must send (default: the variable {TOKEN_VARIABLE}, else"
            " none)"
        ),
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    """What it serves, and what it tells."""
    parser.add_argument(
        "--model",
        type=_named,
        action="append",
        metavar="NAME=DIR",
        help=(
            "a model directory to serve under a name, or the name of a packaged model; may be"
            " repeated, and the first is what clients get by default (default: boxed, files and"
            " live)"
        ),
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help=DEVICE)
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="number of processes that work on files (default 1)",
    )
    parser.add_argument(
        "--log-level",
        choices=log.LEVELS,
        default="warning",
        help=(
            "which requests get a line in the log: info, all of them; warning (default), those"
            " that were refused or failed"
        ),
    )
    parser.add_argument(
        "--log-clients", action="store_true", help="write the address of each client into the log"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises InputError for what cannot be served, OSError where the address is not to be had.
    """
    token = _token(arguments.token)
    if not _loopback(arguments.host) and not token:
        raise InputError(
            f"--host {arguments.host}",
            "other machines could use it",
            "give a --token, or leave it out",
        )
    try:
        from gan_denoise.serve.app import LOOPBACK, create_app
        from gan_denoise.serve.server import server
    except ModuleNotFoundError as error:
        raise InputError(
            f"serve needs more packages ({error.name})",
            remedy='in gan_denoise\'s folder, pip install ".[serve]"',
        ) from error
    limits = Limits(
        **{limit.name: getattr(arguments, limit.name) for limit in dataclasses.fields(Limits)}
    )
    models: dict[str, Path | None] = dict(arguments.model or [("boxed", None)])
    if len(models) < len(arguments.model or [()]):
        raise InputError(
            "--model", "two models have the same name", "choose another for one of them"
        )
    app = create_app(
        models,
        limits=limits,
        token=token,
        hosts=LOOPBACK | {arguments.host},
        allowed=frozenset(arguments.allow_host),
        device=arguments.device,
        jobs=arguments.jobs,
        log_clients=arguments.log_clients,
    )
    with _listen(arguments.host, arguments.port) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        announcement = f"serve: {url} with {', '.join(models)}; Ctrl-C ends it"
        log.begin(arguments.log_level)
        server(app, announcement).run(sockets=[listener])
    return 0


def _token(option: str | None) -> str | None:
    """Blanks around it mean nothing. Raises InputError for one that nobody could send."""
    if option is None:
        option = os.environ.get(TOKEN_VARIABLE) or None
    if option is None:
        return None
    token = option.strip()
    if not token or not token.isprintable():
        raise InputError(
            "--token", "is empty, or holds control characters", "give one that clients can send"
        )
    return token


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"{host}:{port}", f"cannot listen there ({error.strerror})", "choose another --port"
        ) from error


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if text in MODELS:
        return text, MODELS[text]
    if (
        not equals
        or not folder
        or not name
        or not all(letter.isalnum() or letter in "._-" for letter in name)
    ):
        raise argparse.ArgumentTypeError(
            "expected NAME=DIR, NAME of letters, digits, '.', '_', '-', or a model of the package"
            f" ({', '.join(MODELS)}), found {text!r}"
        )
    return name, Path(folder)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, found {text!r}")
    return int(text)
