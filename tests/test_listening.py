"""The page to hear and rank systems, in a browser: made of folders, and of an experiment."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import report
import samples
from browsing import lengthen
from conftest import ROOT, here, one_error_line, run, speech_like, write
from gan_denoise.packaged import PUBLISHED
from test_page import browser, page_file  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser


SYSTEMS = ("clean", "noisy", "box", "</script><b>")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two conditions of two utterances by four systems."""
    root = tmp_path_factory.mktemp("samples")
    draw = np.random.default_rng(0)
    for condition in ("default", "heavy"):
        for number in range(2):
            clean = speech_like(number)
            for name, level in zip(SYSTEMS, (0.0, 0.1, 0.01, 0.03), strict=True):
                place = root / condition / name.replace("/", "-")
                noise = level * draw.standard_normal(len(clean))
                write(place / f"u{number}.wav", clean + noise, subtype="FLOAT")
    return root


@pytest.fixture(scope="module")
def ranking(folders: Path) -> Path:
    page, note = folders / "page.html", folders / "note.txt"
    note.write_text("Recordings: https://example.org/a, CC BY 4.0 & <others>\n")
    options = ("--title", "A <title>", "--note", note, page)
    program = ("python", "recipes/samples.py")
    result = run(*program, *options, folders / "default", folders / "heavy")
    assert result.returncode == 0 and "4 players" in result.stderr + result.stdout, result.stderr
    return page


@pytest.fixture
def opened(browser: Browser, ranking: Path) -> Iterator[Any]:  # noqa: F811
    """The page, opened from the disk.

    Fails where the console has an error, or anything else is asked for.
    """
    page, errors, requests = browser.new_page(accept_downloads=True), [], []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(ranking.as_uri())
    yield page
    page.close()
    assert errors == []
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {ranking.as_uri()}


def test_samples_are_heard_and_seen_with_scores_and_attribution(opened: Any) -> None:
    room = "document.querySelector('.room').room"
    assert opened.locator(".room").count() == 4 and opened.title() == "A <title>"
    names = opened.locator(".room").first.locator(".system b").all_text_contents()
    assert names == ["clean", "noisy", "<-script><b>", "box"]
    score = opened.locator(".room").first.locator(".system small").nth(3).text_content()
    assert score.startswith("PESQ ") and "SI-SDR " in score and score.endswith(" dB")
    assert opened.locator(".room").first.locator(".picture img").count() == 4
    assert opened.locator("#note").text_content() == (
        "Recordings: https://example.org/a, CC BY 4.0 & <others>"
    )
    assert opened.locator("#note a").get_attribute("href") == "https://example.org/a"
    lengthen(opened, room)
    opened.locator(".room .play").first.click()
    opened.wait_for_function(f"{room}.sources && {room}.position() > 0.1")
    opened.locator(".room .system").nth(2).click(position={"x": 5, "y": 5})
    opened.wait_for_function(f"{room}.gains[2].gain.value > 0.9")
    opened.wait_for_function(f"{room}.gains[1].gain.value < 0.1")
    opened.locator("#condition").select_option("heavy")
    assert opened.locator(".room").count() == 2


def test_sounds_are_whole(opened: Any) -> None:
    lengths = opened.evaluate(
        """async () => {
            const room = document.querySelector('.room').room;
            await room.load();
            return room.buffers.map(buffer => buffer.duration);
        }"""
    )
    assert lengths == pytest.approx([1.0] * 4, abs=0.01)


def test_a_listener_ranks_blind_and_the_page_counts(opened: Any, tmp_path: Path) -> None:
    opened.locator("#mode").click()
    assert opened.locator(".room img").count() == 0  # which would tell
    text = opened.locator("#rooms").text_content()
    assert "box" not in text and "PESQ" not in text
    labels = opened.locator(".room").first.locator(".system b").all_text_contents()
    assert labels == ["clean", "A", "B", "C", "D"]
    assert opened.locator("#reveal").is_disabled() and opened.locator("#save").is_disabled()
    # A listener with good ears: by the noise, which the test alone may look up
    best = ["clean", "box", "<-script><b>", "noisy"]
    behind = opened.evaluate(
        "rooms.map(room => room.places.slice(1).map(place => room.systems[place.system].name))"
    )
    assert all(sorted(names) == sorted(best) for names in behind)
    for at, names in enumerate(behind[:3]):  # the last is left out
        for place, name in enumerate(names):
            rank = 1 if name in ("clean", "box") and at == 0 else best.index(name) + 1
            opened.locator(".room").nth(at).locator("select").nth(place).select_option(str(rank))
    assert opened.locator("#progress").text_content() == "3 of 4 ranked"
    opened.locator("#listener").fill('Ann "A" B')
    opened.locator("#reveal").click()
    rows = opened.locator("#result tr").all_text_contents()
    assert rows == [
        "systemmean rankranked bestutterances",
        "clean1.1733",  # twice 1, and shares 1 and 2 once
        "box1.8313",
        "<-script><b>3.0003",
        "noisy4.0003",
    ]
    assert "box" in opened.locator("#rooms").text_content()
    assert opened.locator(".room select:not([disabled])").count() == 0
    with opened.expect_download() as download:
        opened.locator("#save").click()
    download.value.save_as(tmp_path / "ranks.csv")
    with open(tmp_path / "ranks.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12 and {line["listener"] for line in lines} == {'Ann "A" B'}
    assert {line["rank"] for line in lines if line["system"] == "noisy"} == {"4"}
    first = {line["system"]: line["mean_rank"] for line in lines[:4]}
    assert first == {"clean": "1.5", "box": "1.5", "<-script><b>": "3", "noisy": "4"}


def test_an_experiment_becomes_a_listening_test(page_file: Path, browser: Browser) -> None:  # noqa: F811
    exp = page_file.parent
    command = ("report.py", "--data", exp.parent / "data", "--listening-test")
    result = here(report.main, *command, 2, exp)
    assert result.returncode == 0, result.stderr
    page = browser.new_page()
    page.goto((exp / "listening_test.html").as_uri())
    assert page.locator(".room").count() == 2
    labels = page.locator(".room").first.locator(".system b").all_text_contents()
    assert labels == ["clean", "A", "B", "C", "D"]  # clean, noisy, l1 and gan under letters
    page.close()
    assert here(report.main, *command, 0, exp).returncode == 2


def test_what_is_no_set_of_samples_is_one_line(folders: Path, tmp_path: Path) -> None:
    clean = write(tmp_path / "default/clean/u0.wav", speech_like(0))
    page = tmp_path / "page.html"
    make = ("samples.py", page, tmp_path / "default")
    one_error_line(here(samples.main, *make), "default: has no folder noisy")
    (tmp_path / "default/noisy").mkdir()
    one_error_line(here(samples.main, *make), "noisy: holds no audio files")
    write(tmp_path / "default/noisy/u1.wav", speech_like(0))
    one_error_line(here(samples.main, *make), "noisy: has no u0, which", str(clean.parent))
    write(tmp_path / "default/noisy/u0.wav", speech_like(0)[:-1])
    one_error_line(here(samples.main, *make), "u0.wav: has 15999 samples", "align them first")
    assert not page.exists()


def test_the_committed_page_has_what_the_package_has(browser: Browser) -> None:  # noqa: F811
    """The models for use and the trained ones, on the same utterances, from the disk."""
    page, errors = browser.new_page(), []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((ROOT / "egs/vctk/examples/index.html").as_uri())
    systems = page.evaluate("rooms.map(room => room.systems.map(system => system.name).join())")
    assert len(systems) == 24 and len(set(systems)) == 1
    names = systems[0].split(",")
    assert names[:2] == ["clean", "noisy"] and {"box", "box live"} < set(names)
    assert set(names) - {"clean", "noisy", "box", "box live"} == set(PUBLISHED)
    room = "document.querySelector('.room').room"
    page.locator(".room .play").first.click()
    page.wait_for_function(f"{room}.sources && {room}.position() > 0.1")
    page.close()
    assert errors == []
