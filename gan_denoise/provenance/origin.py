"""Where a model and its scores came from, and what of that is no longer so.

What a training notes in its model's config.json and stage 4 in scores.yaml stands there as digests
of contents, not as names and paths: `explain` compares them with what is here now.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gan_denoise import __version__, datadir
from gan_denoise.config import load_experiment, read_yaml
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.packaged import MODELS
from gan_denoise.provenance import code
from gan_denoise.provenance.inputs import data_digest, file_digest
from gan_denoise.system.files import digest

ROOT = Path(__file__).resolve().parents[2]  # the repository, where there is one
_SOURCES = ("gan_denoise", "recipes", "egs/vctk/local")
_ENOUGH = 6  # differing settings, in a line


@functools.cache
def checkout() -> dict[str, Any]:
    """The state of the program's code.

    It is git's commit, whether the files differ from that commit (both None outside a git
    checkout), and a digest of all Python files.
    """
    files = [path for folder in _SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = {str(path.relative_to(ROOT)): file_digest(path) for path in files}
    commit = _git("rev-parse", "HEAD") if (ROOT / ".git").exists() else None
    changed = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    dirty = None if changed is None else bool(changed)
    return {"commit": commit, "dirty": dirty, "digest": digest(texts)}


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def program() -> dict[str, Any]:
    """What ran: `code`, and a digest of the lock of versions."""
    return {"code": checkout(), "lock": file_digest(ROOT / "requirements.lock")}


def machine() -> str:
    """One line about the hardware and the versions that a figure rests on."""
    device = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        device = next(
            (
                line.split(":")[1].strip()
                for line in cpuinfo.open()
                if line.startswith("model name")
            ),
            device,
        )
    threads = ""
    if torch := sys.modules.get("torch"):  # which a program without it need not load
        if torch.cuda.is_available():
            device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        threads = f", {torch.get_num_threads()} threads"
    return (
        f"{device}, {os.cpu_count()} cores{threads}, torch"
        f" {importlib.metadata.version('torch')}, gan_denoise {__version__}"
    )


def who(splits: Mapping[str, DataDir]) -> dict[str, Any]:
    """Who is in which split: a digest of the speakers, and counts."""
    speakers = {name: sorted(set(data.utt2spk.values())) for name, data in splits.items()}
    counts = {
        name: {"speakers": len(speakers[name]), "utterances": len(data)}
        for name, data in splits.items()
    }
    return {"digest": digest(speakers), **counts}


@dataclass
class Node:
    """A line of the tree.

    holds: whether it is still so; None where that cannot be said. now: what is here in its place.
    """

    label: str
    text: str
    holds: bool | None = None
    now: str = ""
    children: list[Node] = field(default_factory=list)


def explain(model: Path, data: Path | None = None, *, seen: tuple[Path, ...] = ()) -> Node:
    """What a model directory's config.json says about its making, compared with what is here.

    data: the data folder (train and dev); left out, DATA beside the folder of experiments, where it
    is. seen: the models that led here, so that a circle ends. Raises InputError for what is no
    model directory.
    """
    path, place = model / "config.json", model.resolve()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name, written = config.get("name") or place.name, dict(config["experiment"])
    except FileNotFoundError as error:
        raise InputError(f"{model}: is not a model directory, config.json is missing") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a model configuration ({error})") from error
    weights = file_digest(model / "model.safetensors")
    size = f"{config['parameters']:,} weights" if "parameters" in config else "weights"
    root = Node(str(model), f"{name}, seed {config.get('seed')}, step {config.get('step')}, {size}")
    root.children = [
        _weights(config.get("weights"), weights),
        _experiment(name, written),
        *_data(config, data or (place / "../../../data").resolve()),
        *_program(
            {**(config.get("origin") or {}), "machine": config.get("machine")},
            lambda: code.of_training(written),
        ),
        *_started_from(config, (*seen, place)),
        *_scores(place.parent, weights),
    ]
    return root


def _weights(then: str | None, now: str | None) -> Node:
    holds = then == now if then else None if now else False
    return Node("weights", then or now or "none", holds, now or "missing")


def _experiment(name: str, written: Mapping[str, Any]) -> Node:
    node = Node("experiment", f"{name}, settings {digest(written)}")
    path = ROOT / f"recipes/experiments/{name}.yaml"
    if path.is_file():
        ours = load_experiment(path)
        differing = list(_differing(written, {key: ours[key] for key in ours if key in written}))
        more = f" and {len(differing) - _ENOUGH} more" if len(differing) > _ENOUGH else ""
        node.holds, node.now = not differing, ", ".join(differing[:_ENOUGH]) + more
    return node


def _differing(then: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(then.keys() | now.keys()):
        old, new = then.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differing(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} {old} then, {new} in the file"


def _data(config: Mapping[str, Any], folder: Path) -> Iterator[Node]:
    contents = config.get("data") or {}
    about = (config.get("origin") or {}).get("split") or {}
    here: dict[str, DataDir] = {}
    for name, content in contents.items():
        counts = about.get(name, {})
        size = "".join(f", {count} {what}" for what, count in counts.items())
        node = Node(f"data/{name}", f"content {content}{size}")
        if (folder / name / "noisy.scp").is_file():
            try:
                here[name] = datadir.read(folder / name, noisy=True)
                content_now = data_digest(here[name], folder / name, jobs=os.cpu_count() or 1)
                node.holds, node.now = content_now == content, f"{content_now} in {folder}"
            except InputError as error:
                node.holds, node.now = False, str(error)
        yield node
    if about and len(here) == len(contents):
        split_now = who(here)["digest"]
        yield Node("split", about["digest"], split_now == about["digest"], split_now)
    elif about:
        yield Node("split", about["digest"])
    if "noise" in config:
        node = Node("noise", f"procedure {config['noise']}")
        if (folder / "train/noise.yaml").is_file():
            made_with = read_yaml(folder / "train/noise.yaml").get("fingerprint")
            node.holds, node.now = made_with == config["noise"], f"{made_with} in {folder}"
        yield node


def _is_checkout() -> bool:
    """Whether there is code with which a training's code can be compared.

    An installed package has the library alone.
    """
    return (ROOT / "recipes").is_dir()


def _program(origin: Mapping[str, Any], of_now: Callable[[], str]) -> Iterator[Node]:
    """origin: what was noted. of_now: the digest of the code that matters here, as it is now."""
    then = origin.get("code")
    if not then:
        yield Node("code", "not noted")
    else:
        dirty = " with changes" if then["dirty"] else ""
        commit = f"commit {then['commit'][:12]}{dirty}, " if then["commit"] else ""
        now = checkout()["digest"]
        node = Node("code", f"{commit}files {then['digest']}", now=f"files {now}")
        if _is_checkout():
            node.holds = then["digest"] == now
        if origin.get("training"):  # comments, and other modules, may have changed since
            mattered = tuple(origin["training"])
            node.text = f"{commit}{', then '.join(mattered)}"
            if _is_checkout():
                node.now = of_now()
                node.holds = mattered == (node.now,)
        yield node
    lock = file_digest(ROOT / "requirements.lock")
    if origin.get("lock"):
        holds = lock == origin["lock"] if _is_checkout() else None
        yield Node("versions", f"lock {origin['lock']}", holds, str(lock))
    if origin.get("machine"):
        yield Node("machine", origin["machine"])


def _started_from(config: Mapping[str, Any], seen: tuple[Path, ...]) -> Iterator[Node]:
    """The models that a training was given: to start from, and to learn from."""
    written = config["experiment"]
    folders = {"init": written.get("init"), "teacher": (written.get("distil") or {}).get("teacher")}
    for label, folder in folders.items():
        if folder:
            path = MODELS.get(folder) or Path(os.path.expandvars(folder))
            node, now = Node(label, folder), file_digest(path / "model.safetensors")
            if now is None or not (path / "config.json").is_file():
                node.now = "gone"
                if path.is_absolute() or _is_checkout():
                    node.holds = False
            else:
                if label in config:
                    node.holds, node.now = config[label] == now, f"weights {now}"
                if path.resolve() not in seen:
                    node.children = explain(path, seen=seen).children
            yield node


def _scores(exp: Path, weights: str | None) -> Iterator[Node]:
    """The scores of a run's folder, and of its conditions."""
    for path in sorted([*exp.glob("scores.yaml"), *exp.glob("conditions/*/scores.yaml")]):
        record, table = read_yaml(path), path.with_name("scores.csv")
        node = Node(str(table.relative_to(exp)), f"of model {record.get('model')}")
        if record.get("is") != file_digest(table):
            node.holds, node.now = False, "the table is not as stage 4 has written it"
        else:
            node.holds = record.get("model") == weights
            node.now = f"the model is {weights}"
        if record.get("origin"):
            origin = {
                **record["origin"],
                "training": [record["code"]] if "code" in record else None,
            }
            metrics = record.get("metrics", ())
            node.children = list(_program(origin, partial(code.of_scores, metrics)))
        yield node


def render(node: Node) -> list[str]:
    """The tree as lines; what no longer holds is marked, with what is here instead."""
    return [f"{node.label}: {node.text}", *_branches(node, "")]


def _branches(node: Node, indent: str) -> Iterator[str]:
    width = max((len(child.label) for child in node.children), default=0)
    for child in node.children:
        last = child is node.children[-1]
        mark = {True: "✓", False: "✗", None: " "}[child.holds]
        why = f"  now: {child.now}" if child.holds is False else ""
        branch = "└─" if last else "├─"
        yield f"{indent}{branch} {mark} {child.label.ljust(width)}  {child.text}{why}"
        yield from _branches(child, indent + ("   " if last else "│  "))


def broken(node: Node) -> int:
    """How many lines no longer hold."""
    return (node.holds is False) + sum(broken(child) for child in node.children)
