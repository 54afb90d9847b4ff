"""The page of gan-denoise serve in a browser: the microphone, recorded and live."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gan_denoise
from browsing import text, until
from gan_denoise import audio

if TYPE_CHECKING:
    from playwright.sync_api import Page


SLOW = """() => {
    const own = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.given = [];
    navigator.mediaDevices.getUserMedia = async wish => {
        await pause(0.2);
        given.push(await own(wish));
        return given.at(-1);
    };
}"""


@pytest.mark.parametrize("button", ["#record", "#speak"])
def test_a_microphone_that_nobody_waits_for_any_more_is_let_go(page: Page, button: str) -> None:
    page.evaluate(SLOW)
    for _ in range(3):  # it starts, stops while the browser asks, starts again
        page.click(button)
    until(page, "given.length === 2")
    until(page, f"document.querySelector('{button}').dataset.state === 'on'")
    states = "given.map(stream => stream.getAudioTracks()[0].readyState).sort().join()"
    until(page, f"{states} === 'ended,live'")
    page.click(button)
    assert page.evaluate(states) == "ended,ended"
    assert page.locator(button).get_attribute("data-state") == "idle"


@pytest.mark.parametrize(
    "name, words",
    [
        ("NotAllowedError", "address bar"),
        ("NotFoundError", "no microphone"),
        ("NotReadableError", "another program"),
        ("OtherError", "(OtherError)"),
    ],
)
def test_why_there_is_no_microphone_is_said_by_the_errors_name(
    page: Page, name: str, words: str
) -> None:
    page.evaluate(
        f"""() => {{ navigator.mediaDevices.getUserMedia = async () => {{
            throw new DOMException("", "{name}");
        }}; }}"""
    )
    for button in ("#record", "#speak"):
        page.click(button)
        until(page, f"$('problem').textContent.includes('{words}')")
        assert page.locator(button).get_attribute("data-state") == "idle"


def test_an_unplugged_microphone_is_said_and_what_was_recorded_is_kept(page: Page) -> None:
    page.click("#record")
    until(page, "parseFloat($('recorded').textContent) > 0.2")
    page.evaluate("recording.ear.stream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    assert "unplugged" in text(page, "#problem")
    assert page.locator("#record").get_attribute("data-state") == "idle"
    page.wait_for_selector(".ready:not([hidden])")


def test_another_model_ends_the_live_stream(page: Page) -> None:
    page.click("#speak")
    until(page, "speaking.ear?.ready")
    page.evaluate("window.track = speaking.ear.stream.getAudioTracks()[0]")
    page.evaluate("$('model').dispatchEvent(new Event('change'))")
    assert page.evaluate("track.readyState") == "ended"
    assert "another model" in text(page, "#problem")


def delay_ms(page: Page) -> int:
    number = re.search(r"\d+", text(page, "#delay"))
    assert number
    return int(number[0])


def test_the_delay_counts_from_the_hello(page: Page) -> None:
    page.evaluate(
        """() => {
            const Own = WebSocket;
            window.WebSocket = class extends Own {
                set onmessage(told) {
                    super.onmessage = event =>
                        setTimeout(told, typeof event.data === "string" ? 2000 : 0, event);
                }
            };
        }"""
    )
    page.click("#speak")
    page.wait_for_selector("#delay:not(:empty)")
    assert page.evaluate("speaking.ear.from / speaking.ear.rate") > 1.5
    assert 32 < delay_ms(page) < 1500
    page.click("#speak")


def frames_of(page: Page) -> tuple[list[bytes], list[bytes]]:
    """Lists that fill with the binary messages that the page's WebSocket sends and receives."""
    sent, received = [], []

    def listen(socket: Any) -> None:
        socket.on("framesent", lambda content: sent.append(content))
        socket.on(
            "framereceived",
            lambda content: received.append(content) if isinstance(content, bytes) else None,
        )

    page.on("websocket", listen)
    return sent, received


def test_the_microphone_comes_back_denoised(page: Page, noisy: Path) -> None:
    sent, received = frames_of(page)
    page.click("#speak")
    page.wait_for_selector("#delay:not(:empty)")
    assert delay_ms(page) > 32
    until(page, "$('heard').value > -60")
    until(page, "$('played').value > -60")
    deadline = time.monotonic() + 30
    while sum(map(len, received)) < 4 * 16000:
        page.wait_for_timeout(100)
        assert time.monotonic() < deadline
    page.uncheck("#denoise")
    page.check("#denoise")
    page.click("#speak")
    assert (
        page.text_content("#speak") == "Start the microphone"
        and page.locator("#problem").is_hidden()
    )
    heard, back = (np.frombuffer(b"".join(messages), "<f4") for messages in (sent, received))
    assert 16000 <= len(back) < len(heard)
    expected = gan_denoise.load().stream(16000).push(heard[:, None])[: len(back), 0]
    np.testing.assert_allclose(back[: len(expected)], expected, atol=1e-5)
    file = np.tile(audio.read(noisy)[0][:, 0], 4)  # the fake microphone plays it again and again
    part = heard[4000:12000]
    correlation = np.correlate(file, part, "valid") / np.linalg.norm(part)
    energy = np.sqrt(np.convolve(file**2, np.ones(len(part)), "valid"))
    assert np.max(correlation / energy) > 0.95


def test_a_recording_is_made_and_enhanced(page: Page) -> None:
    page.click("#record")
    page.wait_for_selector("#recording:not([hidden])")
    until(page, "parseFloat($('recorded').textContent) > 0.6 && $('recording').value > -60")
    assert page.text_content("#record") == "Stop and enhance"
    page.click("#record")
    page.wait_for_selector(".ready:not([hidden])")
    assert text(page, ".card h3").startswith("recording 1.wav ")
    assert (
        page.evaluate(
            "document.querySelector('.card.room').room.loadBuffers()"
            ".then(([before]) => Math.max(...mono(before)))"
        )
        > 0.01
    )


def test_a_microphone_that_is_denied_is_said_in_words(page: Page) -> None:
    page.context.clear_permissions()
    page.click("#speak")
    until(page, "!$('problem').hidden")
    assert "allow it in the address bar" in text(page, "#problem")
    assert page.text_content("#speak") == "Start the microphone"
