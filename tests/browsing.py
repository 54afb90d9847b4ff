"""A browser, and the page that gan-denoise serve shows in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service_process import Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser(noisy: Path) -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium: .ci/run installs it")
        pytest.skip("no Chromium on this machine: install it (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=BROWSER,
            args=[
                "--no-sandbox",
                "--autoplay-policy=no-user-gesture-required",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={noisy}",
            ],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    """The page with leave to use the microphone.

    Fails for an error, and for a request to anywhere else.
    """
    context = browser.new_context(
        permissions=["microphone"], accept_downloads=True, reduced_motion="reduce"
    )
    page, errors, asked = context.new_page(), [], []

    page.on(
        "console",
        lambda message: errors.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    yield page
    context.close()
    # A browser logs what a test meant to be refused
    refused = ("401", "413", "415", "429", "503", "ERR_FAILED")
    assert [error for error in errors if not any(code in error for code in refused)] == []
    assert all(url.startswith((service.url, "blob:", "data:")) for url in asked), asked


def until(page: Page, expression: str, seconds: float = 15.0) -> Any:
    """Wait until an expression of the page is true.

    The page's policy forbids what Playwright has for that.
    """
    deadline = time.monotonic() + seconds
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < deadline, expression
        time.sleep(0.02)
    return value


def text(page: Page, selector: str) -> str:
    """What an element of the page says."""
    content = page.text_content(selector)
    assert content is not None
    return content


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def lengthen(page: Page, room: str) -> None:
    """A minute of silence in a listening room, which no slow machine comes to the end of."""
    page.evaluate(
        f"""async () => {{
            await {room}.load();
            {room}.buffers = {room}.buffers.map(({{ sampleRate }}) =>
                new AudioBuffer({{ length: 60 * sampleRate, sampleRate }}));
        }}"""
    )
