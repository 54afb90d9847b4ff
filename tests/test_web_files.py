"""The page of gan-denoise serve in a browser: files, how it looks, what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

import gan_denoise
from browsing import lengthen, text, until
from conftest import speech_like, write
from gan_denoise import audio

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Page

Scheme = Literal["light", "dark"]


def test_a_file_is_enhanced_heard_and_saved(page: Page, noisy: Path, tmp_path: Path) -> None:
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    assert page.text_content(".card h3") == "noisy.wav 2.0 s, 16000 Hz, mono, strength 0.5"
    room = "document.querySelector('.card.room').room"
    before, after = page.evaluate(
        f"{room}.loadBuffers().then(all => all.map(one => [...one.getChannelData(0)]))"
    )
    samples, rate = audio.read(noisy)
    expected = gan_denoise.load()(samples, rate)[:, 0]
    np.testing.assert_allclose(before, samples[:, 0], atol=1e-4)
    np.testing.assert_allclose(after, expected, atol=1e-4)
    for kind in (
        "wave",
        "spectrum",
    ):  # pictures: something is drawn, and the noise is gone from the second
        drawn = page.evaluate(
            f"[...document.querySelectorAll('.{kind}')].map(canvas => canvas.getContext('2d')"
            ".getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, one) => sum + one))"
        )
        assert drawn[0] > 1.02 * drawn[1] > 0
    lengthen(page, room)
    page.click(".play")
    until(page, f"{room}.sources && {room}.position() > 0.1")
    started = page.evaluate(f"{room}.started")
    page.locator(".system").nth(0).focus()
    page.keyboard.press("1")
    until(page, f"{room}.gains[0].gain.value > 0.9 && {room}.gains[1].gain.value < 0.1")
    page.keyboard.press("2")
    page.locator(".share").evaluate(
        "slider => { slider.value = 25; slider.dispatchEvent(new Event('input')); }"
    )
    until(
        page,
        f"{room}.gains.every(({{gain}}, at) => Math.abs(gain.value - [0.75, 0.25][at]) < 0.01)",
    )
    assert page.evaluate(f"{room}.started") == started  # the same clock goes on
    page.locator(".system").nth(1).focus()
    page.keyboard.press(" ")
    until(page, f"!{room}.sources && {room}.offset > 0")
    assert (
        float(page.locator(".picture i").first.evaluate("line => parseFloat(line.style.left)")) > 0
    )
    with page.expect_download() as download:
        page.click(".save")
    assert download.value.suggested_filename == "noisy_enhanced.wav"
    download.value.save_as(tmp_path / "saved.wav")
    saved, saved_rate = audio.read(tmp_path / "saved.wav")
    assert saved_rate == rate
    np.testing.assert_allclose(saved[:, 0], 0.25 * expected + 0.75 * samples[:, 0], atol=2e-4)
    page.click(".remove")
    assert page.locator(".card.room").count() == 0


def no_audio(name: str) -> FilePayload:
    return {"name": name, "mimeType": "audio/wav", "buffer": b"hello"}


def test_what_cannot_be_read_is_said_in_words(page: Page) -> None:
    page.set_input_files("#files", no_audio("words.wav"))
    page.wait_for_selector(".waits.problem")
    assert text(page, ".waits output").startswith("words.wav: cannot be decoded")


def test_a_server_that_is_gone_is_said_in_words(page: Page) -> None:
    page.route("**/v1/enhance*", lambda route: route.abort("failed"))
    page.set_input_files("#files", no_audio("a.wav"))
    page.wait_for_selector(".waits.problem")
    assert (
        page.text_content(".waits output")
        == "The server does not answer. Is gan-denoise serve still running?"
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Short recordings in files of three formats."""
    folder = tmp_path_factory.mktemp("three")
    return [str(write(folder / name, speech_like(0, 0.3))) for name in ("a.wav", "b.flac", "c.ogg")]


def test_many_files_wait_their_turn_in_a_list_and_are_saved_at_once(
    page: Page, three: list[str]
) -> None:
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        """() => {
            window.most = 0;
            const add = queue.sending.add.bind(queue.sending);
            queue.sending.add = card => {
                add(card);
                most = Math.max(most, queue.sending.size);
            };
        }"""
    )
    page.set_input_files("#files", three)
    until(page, "$('sum').textContent === '3 of 3 done'", 60)
    assert page.evaluate("most") == 2 and not [url for url in asked if "/v1/progress/" in url]
    assert page.locator(".card.row").count() == 3
    assert page.evaluate("$('cards').clientHeight") < 3 * 80
    names = []
    page.on("download", lambda download: names.append(download.suggested_filename))
    page.click("#saveall")
    while len(names) < 3:
        page.wait_for_timeout(50)
    assert names == ["a_enhanced.wav", "b_enhanced.flac", "c_enhanced.ogg"]
    page.locator(".open").first.click()
    page.wait_for_selector(".ready:not([hidden])")
    page.click("#removeall")
    assert page.locator(".card.room").count() == 0 and page.locator("#all").is_hidden()


def test_a_busy_server_is_asked_again_when_it_said(page: Page, three: list[str]) -> None:
    answers = iter([429, 503])

    def busy(route: Any) -> Any:
        status = next(answers, None)
        if status is None:
            return route.continue_()
        return route.fulfill(status=status, headers={"retry-after": "0.1"}, json={"error": "busy"})

    page.route("**/v1/enhance*", busy)
    page.set_input_files("#files", three[:1])
    page.wait_for_selector(".ready:not([hidden])")


def test_a_proxys_refusal_is_said_in_words_and_tried_again(page: Page, three: list[str]) -> None:
    page.route(
        "**/v1/enhance*", lambda route: route.fulfill(status=413, body="<html>Too large</html>")
    )
    page.set_input_files("#files", three[:1])
    page.wait_for_selector(".waits.problem")
    assert "413: the file is too large" in text(page, ".waits output")
    page.unroute("**/v1/enhance*")
    page.click(".waits .retry")
    page.wait_for_selector(".ready:not([hidden])")


def test_a_wrong_token_is_said(page: Page) -> None:
    page.route("**/v1/models", lambda route: route.fulfill(status=401, json={"error": "wrong"}))
    page.reload()
    page.wait_for_selector("#gate:not([hidden])")
    assert page.locator("#problem").is_hidden()  # nobody has given one yet
    page.fill("#token", "wröng €")
    page.click("#gate button")
    until(page, "$('problem').textContent === 'The token is wrong.'")


def test_the_files_of_a_dropped_folder_are_taken(page: Page) -> None:
    names = page.evaluate(
        """async () => {
            const file = name => ({
                isFile: true, file: yes => yes(new File(["x"], name)),
            });
            const folder = (...inside) => ({
                isFile: false,
                createReader: () => ({ readEntries: yes => yes(inside.splice(0, 1)) }),
            });
            const taken = await within(folder(
                file("a.wav"), file("notes.txt"), folder(file("b.m4a"), file(".c.wav")),
            ));
            return taken.map(({ name }) => name);
        }"""
    )
    assert names == ["a.wav", "b.m4a"]


def test_colours_are_known_to_browsers_of_2022(page: Page) -> None:
    style = page.evaluate("document.querySelector('style').textContent")
    assert "light-dark(" not in style and "color-mix(" not in style
    accents: dict[Scheme, str] = {"light": "#b3400a", "dark": "#ff9b5e"}
    for scheme, accent in accents.items():
        page.emulate_media(color_scheme=scheme)
        computed = "getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()"
        assert page.evaluate(computed) == accent


def test_a_file_may_come_before_the_models_are_known(page: Page, noisy: Path) -> None:
    asked = []
    page.route("**/v1/models", lambda route: asked.append(route))  # answered when continued
    page.reload()
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    asked[0].continue_()
    until(page, "document.getElementById('model').options.length")


def test_it_fits_a_phone_and_the_dark(page: Page, noisy: Path) -> None:
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    page.set_viewport_size({"width": 390, "height": 844})
    inks: dict[Scheme, str] = {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}
    for scheme, ink in inks.items():
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("getComputedStyle(document.body).color") == ink
