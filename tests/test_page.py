"""The results page in a real browser.

It opens from the disk, plays, switches at the same instant, sorts and filters.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from browsing import BROWSER, lengthen, text
from conftest import write_scores
from gan_denoise import datadir
from report import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def page_file(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with invented scores of two systems, and the page made of it.

    The scores are of the prepared test speech.
    """
    folder = tmp_path_factory.mktemp("page")
    exp, data_folder = folder / "exp", folder / "data"
    for name in ("test", "test_same"):  # of several speakers
        shutil.copytree(prepared / "train", data_folder / name)
    shutil.copy(prepared / "corpus.yaml", data_folder)
    data, noise = (
        datadir.read(data_folder / "test", noisy=True),
        datadir.read_noise(data_folder / "test"),
    )
    draw = np.random.default_rng(0)
    gains = {"noisy": 0.0, "oracle_mag": 2.0, "l1": 0.5, "gan": 0.7}
    for name, gain in gains.items():
        rows = [
            {
                "system": name,
                "seed": 0,
                "split": "test",
                "utt_id": utt_id,
                "spk_id": data.utt2spk[utt_id],
                "fingerprint": noise["fingerprint"],
                "pesq_wb": 1.3 + gain + 0.1 * draw.random(),
                "stoi": 0.9,
                "estoi": 0.8,
                "si_sdr": 8.0 + gain + draw.random(),
                "wsdr": -0.9,
            }
            for utt_id in data.utt_ids
        ]
        files = data.noisy if name in ("l1", "noisy") else data.wav
        for folder in (exp / name, exp / name / "conditions/same"):
            datadir.write_table(folder / "enhanced.scp", files)
            write_scores(folder, rows, data, files)
        log = [
            {"step": 5, "phase": "reconstruction", "dev/pesq_wb": 1.5},
            {"step": 5, "phase": "discriminator"},
        ]
        log.append({"step": 10, "phase": "gan", "dev/pesq_wb": 2.0})
        if name == "gan":
            (exp / name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    report(exp, data_folder, "bash run.sh </script><b>")
    return exp / "report.html"


def test_every_picture_is_there(page_file: Path) -> None:
    page = page_file.read_text()
    for heading in ("Gain of every utterance", "Against the input", "Training", "t-SNE"):
        assert heading in page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: .ci/run installs it")
        pytest.skip(
            "no Chromium on this machine: install it (Debian: apt-get install chromium) to test the"
            " page"
        )
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, page_file: Path) -> Iterator[Page]:
    """The page, opened in the browser.

    Fails where the console has an error or anything but the page itself is asked for.
    """
    page = browser.new_page()
    errors, requests = [], []
    page.on(
        "console",
        lambda message: errors.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    yield page
    page.close()
    assert errors == []
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [
        page_file.as_uri()
    ]


def test_it_plays_and_switches_at_the_same_instant(page: Page) -> None:
    room = "document.querySelector('.room').room"
    assert page.locator(".room").count() >= 3
    lengthen(page, room)
    page.locator(".room .play").first.click()
    page.wait_for_function(f"{room}.sources && {room}.position() > 0.1")
    assert page.locator(".room .play").first.text_content() == "Pause"
    started = page.evaluate(f"{room}.started")
    page.locator(".room .system").nth(3).click(position={"x": 5, "y": 5})
    page.wait_for_function(f"{room}.gains[3].gain.value > 0.9 && {room}.gains[1].gain.value < 0.1")
    assert page.evaluate(f"{room}.started") == started  # the same clock goes on
    assert page.locator(".room .system").nth(3).get_attribute("aria-pressed") == "true"
    page.wait_for_function("parseFloat(document.querySelector('.room i').style.left) > 0")
    page.keyboard.press("1")
    page.wait_for_function(f"{room}.system === 0")
    page.keyboard.press(" ")
    page.wait_for_function(f"!{room}.sources && {room}.offset > 0")
    page.locator(".room .system").nth(1).focus()
    page.keyboard.press(" ")  # from where it stopped, by the keyboard alone
    page.wait_for_function(f"{room}.sources && {room}.offset > 0")
    page.evaluate(f"{room}.seek(0.995)")
    page.wait_for_function(f"!{room}.sources && {room}.offset === 0")  # it ends by itself


def test_tables_sort_and_filter(page: Page) -> None:
    def systems() -> list[str]:
        return page.locator("#systems tbody tr:not([hidden]) th").all_text_contents()

    assert systems() == ["noisy", "oracle magnitude", "l1", "gan"]
    heading = page.locator("#systems th button", has_text="PESQ-WB")
    heading.click()
    assert systems() == ["oracle magnitude", "gan", "l1", "noisy"]
    heading.press("Enter")
    assert systems() == ["noisy", "l1", "gan", "oracle magnitude"]
    assert page.locator("#systems th[aria-sort=ascending]").count() == 1
    page.locator("#systems th button", has_text="system").click()
    # Names as words, though l1 holds a number
    assert systems() == ["oracle magnitude", "noisy", "l1", "gan"]
    page.locator("[data-filter=systems]").fill("l1")
    assert systems() == ["l1"]
    assert "better" in text(page, "#differences")
    assert page.locator("figure svg").count() == 6
    assert page.locator("pre").text_content() == "bash run.sh </script><b>"


def test_it_fits_a_phone_and_the_dark(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 390, "height": 844})
        # Tables scroll by themselves
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('thead"
            " th')).backgroundColor]"
        )
        assert (scheme == "dark") == (ink == "rgb(255, 255, 255)") and ink != paper


def test_the_page_is_one_small_file(page_file: Path) -> None:
    text = page_file.read_text()
    assert len(text) < 15e6
    assert (
        yaml.safe_load((page_file.parent / "about.yaml").read_text())["command"]
        == "bash run.sh </script><b>"
    )
