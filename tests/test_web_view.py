"""The page of gan-denoise serve in a browser: what of a recording is seen, heard and saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile as sf

import gan_denoise
from browsing import until
from gan_denoise import audio

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOM = "document.querySelector('.card.room').room"


@pytest.fixture
def shown(page: Page, noisy: Path) -> Page:
    """The page with a recording of 2 s, shown."""
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    page.evaluate(f"{ROOM}.load()")
    return page


def axis(page: Page, name: str) -> list[str]:
    return page.locator(f".system >> nth=0 >> .{name} em").all_text_contents()


def test_pictures_have_axes_and_a_zoom_around_the_position(shown: Page) -> None:
    assert axis(shown, "hertz") == ["0 kHz", "2 kHz", "4 kHz", "6 kHz", "8 kHz"]
    assert axis(shown, "times") == ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]
    assert shown.locator(".wider").is_disabled() and shown.locator(".all").is_disabled()
    whole = shown.evaluate("document.querySelector('.spectrum').toDataURL()")
    shown.evaluate(f"{ROOM}.seek(0.75)")
    until(shown, f"{ROOM}.offset === 1.5")
    shown.click(".closer")
    shown.click(".closer")
    assert shown.evaluate(f"{ROOM}.view") == {"from": 0.625, "to": 0.875}
    assert axis(shown, "times") == ["1.3 s", "1.4 s", "1.5 s", "1.6 s", "1.7 s"]
    assert shown.evaluate("document.querySelector('.picture i').style.left") == "50%"
    assert shown.evaluate("document.querySelector('.spectrum').toDataURL()") != whole
    spectrum = shown.locator(".spectrum").first
    width = spectrum.evaluate("canvas => canvas.clientWidth")
    spectrum.click(position={"x": width / 4, "y": 20})
    until(shown, f"Math.abs({ROOM}.offset - 1.375) < 0.01")  # a click means what is in view
    shown.click(".all")
    assert shown.evaluate(f"{ROOM}.view") == {"from": 0, "to": 1}
    assert shown.evaluate("document.querySelector('.spectrum').toDataURL()") == whole
    for _ in range(9):
        shown.locator(".closer").evaluate("button => button.click()")
    assert shown.evaluate(f"({ROOM}.view.to - {ROOM}.view.from) * 2") == pytest.approx(0.05)


def test_what_is_shown_can_be_looped(shown: Page) -> None:
    shown.evaluate(f"{ROOM}.seek(0.5)")
    until(shown, f"{ROOM}.offset === 1")
    for _ in range(3):
        shown.click(".closer")
    shown.check(".loop input")
    shown.evaluate(
        f"""() => {{
            window.begun = [];
            const own = {ROOM}.start.bind({ROOM});
            {ROOM}.start = offset => {{ begun.push(offset); own(offset); }};
        }}"""
    )
    shown.click(".play")
    until(shown, "begun.length >= 3")
    assert shown.evaluate("begun.slice(1, 3)") == [0.875, 0.875]
    shown.uncheck(".loop input")
    until(shown, f"!{ROOM}.sources && {ROOM}.offset === 0")  # to the recording's end


def test_before_and_after_can_be_equally_loud(shown: Page, noisy: Path) -> None:
    samples, rate = audio.read(noisy)
    enhanced = gan_denoise.load()(samples, rate)
    levels = [float(np.sqrt(np.mean(wave**2))) for wave in (samples, enhanced)]
    weights = "[0, 1].map(one => { room.system = one; return room.weight(one); })"
    assert shown.evaluate(f"(room => {weights})({ROOM})") == [1, 1]
    shown.check(".alike input")
    before, after = shown.evaluate(f"(room => {weights})({ROOM})")
    assert max(before, after) == pytest.approx(1.0)
    assert before * levels[0] == pytest.approx(after * levels[1], rel=0.02)


def test_what_is_too_long_for_memory_is_heard_all_the_same(page: Page, noisy: Path) -> None:
    page.evaluate("Card.longest_s = 1")
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    assert page.locator(".picture").first.is_hidden() and page.locator(".view").is_hidden()
    page.click(".play")
    until(page, f"{ROOM}.sources && {ROOM}.position() > 0.1")
    assert page.evaluate(f"{ROOM}.gains.map(({{ gain }}) => gain.value)") == [0, 1]
    page.locator(".system").first.click()
    until(page, f"{ROOM}.gains[0].gain.value > 0.9 && {ROOM}.gains[1].gain.value < 0.1")
    page.evaluate(f"{ROOM}.seek(0.5)")
    until(page, f"{ROOM}.players.every(one => one.currentTime >= 1)")
    until(page, f"!{ROOM}.sources && {ROOM}.offset === 0")  # it ends by itself
    page.click(".remove")
    assert page.locator(".card.room").count() == 0


@pytest.mark.parametrize(
    "format, share, kind",
    [
        ("wav-24", 100, ("WAV", "PCM_24")),
        ("flac-24", 50, ("FLAC", "PCM_24")),
        ("wav-float", 0, ("WAV", "FLOAT")),
    ],
)
def test_it_is_saved_as_wished(
    shown: Page, noisy: Path, tmp_path: Path, format: str, share: int, kind: tuple[str, str]
) -> None:
    shown.select_option("#format", format)
    shown.locator(".share").evaluate(
        f"slider => {{ slider.value = {share}; slider.dispatchEvent(new Event('input')); }}"
    )
    with shown.expect_download() as download:
        shown.click(".save")
    assert download.value.suggested_filename == f"noisy_enhanced.{kind[0].lower()}"
    download.value.save_as(tmp_path / "saved")
    info = sf.info(tmp_path / "saved")
    assert (info.format, info.subtype) == kind
    samples, rate = audio.read(noisy)
    expected = gan_denoise.load()(samples, rate, mix=share / 100)
    np.testing.assert_allclose(audio.read(tmp_path / "saved")[0], expected, atol=2e-6)
    assert shown.text_content(".save") == "Save"


def test_what_cannot_be_made_is_said(shown: Page) -> None:
    shown.route(
        "**/v1/enhance*", lambda route: route.fulfill(status=413, json={"error": "too long"})
    )
    shown.select_option("#format", "flac-16")
    shown.click(".save")
    until(shown, "$('problem').textContent === 'too long'")
    assert shown.locator(".save").is_enabled()


def test_there_is_a_sample_to_try(page: Page) -> None:
    page.click("#sample")
    page.wait_for_selector(".ready:not([hidden])")
    heading = page.text_content(".card h3") or ""
    assert heading.startswith("sample.flac 4.7 s, 16000 Hz, mono")


def test_a_microphone_can_be_chosen(page: Page) -> None:
    asked = """() => {
        window.wishes = [];
        const own = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = wish => {
            wishes.push(wish.audio.deviceId?.exact);
            return own(wish);
        };
    }"""
    page.evaluate(asked)
    assert page.locator("#microphones").is_hidden()  # before the page may know of any
    page.click("#speak")
    until(page, "speaking.ear?.ready")
    assert page.locator("#microphone option").count() > 1
    page.select_option("#microphone", index=1)  # while it is on: it begins anew
    until(page, "wishes.length === 2 && speaking.state === 'on'")
    chosen = page.evaluate("$('microphone').value")
    assert chosen and page.evaluate("wishes[1]") == chosen
    page.click("#speak")
