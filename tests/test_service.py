"""gan-denoise serve as a process: OpenAPI, the README's client, broken frames, the page."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings

import gan_denoise
from conftest import ROOT, one_error_line, run, speech_like, write
from gan_denoise import audio
from test_page import BROWSER, lengthen

README = (ROOT / "README.md").read_text(encoding="utf-8")
PATH = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"


class Service:
    """A running one. url, port: where. log: what it has said."""

    def __init__(self, process, log):
        self.process, self._log = process, log
        deadline = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", self.log)):
            assert process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)
        self.url, self.port = found[0], int(found[1])

    def enhance(self) -> None:
        """A file, for which the first process must have begun."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        file = io.BytesIO()
        sf.write(file, np.zeros(1000), 16000, format="WAV")
        connection.request("POST", "/v1/enhance", file.getvalue())
        assert connection.getresponse().status == 200

    @property
    def log(self) -> str:
        return self._log.read_text()


def heeding_signals() -> None:
    """As of a terminal: nohup, or a script's `&`, has programs ignore some."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def serving(folder, *options, end=signal.SIGTERM):
    log = folder / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            ["gan-denoise", "serve", "--port", "0", "--max-load", "999", *options],
            stderr=file,
            env=os.environ | {"PATH": PATH, "TMPDIR": str(folder)},
            preexec_fn=heeding_signals,
        )
    try:
        yield Service(process, log)
    finally:
        process.send_signal(end)
        process.wait(60)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The model in the package; its log holds no traceback at the end, and no file of its own
    stays.
    """
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, end=signal.SIGINT) as running:
        running.enhance()
        yield running
    assert "Traceback" not in running.log, running.log
    assert running.process.returncode in (0, 130)  # 0 where Ctrl-C is ignored, as in the background
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "log"]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A noisy recording of 2 s, 16 kHz mono."""
    wave = speech_like(0, 2.0) + 0.02 * np.random.default_rng(0).standard_normal(32000)
    return write(tmp_path_factory.mktemp("noisy") / "noisy.wav", wave, subtype="PCM_16")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_readmes_curl_line(service, noisy, tmp_path):
    (line,) = re.findall(r"^    (curl .*)$", README, re.MULTILINE)
    (tmp_path / "noisy.wav").write_bytes(noisy.read_bytes())
    result = run("bash", "-c", line.replace("http://127.0.0.1:8000", service.url), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    enhanced, rate = audio.read_mono(tmp_path / "out.wav")
    expected = gan_denoise.load()(*audio.read_mono(noisy))
    assert rate == 16000
    np.testing.assert_allclose(enhanced, expected, atol=1.5 / 32768)  # a rounding, and threads


def test_openapi_holds(service):
    import schemathesis  # a second, of every process that collects tests
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    assert {operation.ok().path for operation in schema.get_all_operations()} == {
        "/v1/models",
        "/healthz",
        "/metrics",
        "/v1/enhance",
        "/v1/progress",
        "/v1/progress/{id}",
    }
    for operation in schema.get_all_operations():

        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.ok().as_strategy())
        def holds(case):
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # bytes are no audio

        holds()


def readme_client(url: str) -> str:
    """The README's Python client, for another address."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = (block for block in blocks if "websockets" in block)
    assert len(code.strip().splitlines()) <= 10
    return code.replace("ws://127.0.0.1:8000", url.replace("http", "ws"))


def test_the_readmes_client_works(service, noisy, tmp_path):
    (tmp_path / "noisy.wav").write_bytes(noisy.read_bytes())
    result = run("python", "-c", readme_client(service.url), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    samples, rate = audio.read(noisy)
    expected = gan_denoise.load("live")(samples, rate)
    got, _ = audio.read(tmp_path / "enhanced.wav")
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=1.01 / 32768 + 1e-5)


def test_the_readmes_section_is_short():
    section = re.search(r"## Serve it\n(.*?)\n## ", README, re.DOTALL)[1]
    assert len(section.strip().splitlines()) <= 20
    assert "curl" in section


def open_stream(port: int, query: str = "") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(
        f"GET /v1/stream{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return connection


def frame(first: int, payload: bytes, masked: bool = True, length: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    mask = 0x80 * masked
    head = (
        struct.pack("!BB", first, mask | length)
        if length < 126
        else struct.pack("!BBQ", first, mask | 127, length)
    )
    return head + bytes(4) * masked + payload


BROKEN_FRAMES = {
    "no UTF-8": frame(0x81, b"\xff\xfe"),
    "not masked": frame(0x82, bytes(8), masked=False),
    "reserved opcode": frame(0x83, bytes(8)),
    "reserved bits": frame(0xF2, bytes(8)),
    "too large": frame(0x82, bytes(8), length=2**21),
    "continued nothing": frame(0x80, bytes(8)),
    "long ping": frame(0x89, bytes(126)),
    "half a sample": frame(0x82, bytes(3)),
    "words": frame(0x81, b"end?"),
    "close of one byte": frame(0x88, b"x"),
    "fragments beyond the limit": frame(0x02, bytes(2**20)) + frame(0x80, bytes(2**20)),
    "rubbish": b"\x00" * 64,
}


def test_two_hundred_broken_frames_and_requests_leave_the_server_well(service, noisy):
    server, before = psutil.Process(service.process.pid), 0
    draw = np.random.default_rng(0)
    for number in range(200):
        if number == 50:
            before = server.memory_info().rss
        kind = number % (len(BROKEN_FRAMES) + 2)
        if kind < len(BROKEN_FRAMES):
            with open_stream(service.port) as connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 101")
                with contextlib.suppress(ConnectionError):
                    connection.sendall(list(BROKEN_FRAMES.values())[kind])
                    while b"\x88" not in (connection.recv(65536) or b"\x88"):
                        pass  # until it is closed from there
        else:
            with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
                connection.sendall(
                    draw.bytes(200) + b"\r\n\r\n" if kind % 2 else b"GET / HTTP/9.9\r\nHost\r\n\r\n"
                )
                assert connection.recv(4096).startswith(b"HTTP/1.1 400")
    assert server.memory_info().rss - before < 16 * 2**20
    with open_stream(service.port) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 101")


def test_memory_does_not_grow_with_the_file(service, tmp_path):
    """A minute at 192 kHz in 32 bits, 46 MB, sent as it is read."""
    second = (0.01 * np.random.default_rng(0).standard_normal(192000)).astype(np.float32)
    with sf.SoundFile(tmp_path / "long.wav", "w", 192000, 1, "FLOAT") as file:
        for _ in range(60):
            file.write(second)
    first = http.client.HTTPConnection("127.0.0.1", service.port)
    short = write(tmp_path / "short.wav", speech_like(0, 10.0))  # more than the model's window
    first.request("POST", "/v1/enhance", short.read_bytes())
    assert first.getresponse().read()
    processes = [psutil.Process(service.process.pid)]
    processes += processes[0].children(recursive=True)
    before, peak, connection = sum(process.memory_info().rss for process in processes), 0, None
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    with open(tmp_path / "long.wav", "rb") as file:
        connection.request(
            "POST",
            "/v1/enhance",
            file,
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
    answer = connection.getresponse()
    size = 0
    while piece := answer.read(2**20):
        size += len(piece)
        peak = max(peak, sum(process.memory_info().rss for process in processes))
    assert size == (tmp_path / "long.wav").stat().st_size
    assert peak - before < 32 * 2**20


def test_it_ends_without_a_traceback_and_without_orphans(tmp_path):
    """With a file under way, a stream, and a connection that says nothing, when the terminal is
    closed.
    """
    with serving(tmp_path) as running:
        running.enhance()
        family = psutil.Process(running.process.pid).children(recursive=True)
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=30)
        head = "POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
        with (
            connection,
            open_stream(running.port),
            socket.create_connection(("127.0.0.1", running.port)),
        ):
            connection.sendall(head.encode())
            time.sleep(0.2)
            running.process.send_signal(signal.SIGHUP)
            assert b"503 Service Unavailable" in connection.recv(4096)
        assert running.process.wait(60) == 128 + signal.SIGHUP
    assert "Traceback" not in running.log and running.log.count("\n") == 2, running.log
    assert len(family) > 2 and not psutil.wait_procs(family, 30)[1]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "log"]


def test_a_server_that_is_killed_leaves_no_orphans_and_one_that_cannot_store_says_so(tmp_path):
    with serving(tmp_path) as running:
        family = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        assert family and not psutil.wait_procs(family, 60)[1]
    shutil.rmtree(next(tmp_path.glob("gan_denoise-serve-*")))
    (tmp_path / f"gan_denoise-serve-{os.getuid()}").write_text("a file of this name")
    result = run("gan-denoise", "serve", "--port", "0", env={"TMPDIR": str(tmp_path)})
    one_error_line(result, "gan_denoise-serve-")
    assert len(result.stderr.splitlines()) == 1


# The page


@pytest.fixture(scope="module")
def browser(noisy):
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
def page(browser, service):
    """The page with leave to use the microphone; fails for an error, and for a request to anywhere
    else.
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


def until(page, expression: str, seconds: float = 15.0):
    """Wait until an expression of the page is true; its policy forbids what Playwright has for
    that.
    """
    deadline = time.monotonic() + seconds
    while not (found := page.evaluate(expression)):
        assert time.monotonic() < deadline, expression
        time.sleep(0.02)
    return found


def test_a_file_is_enhanced_heard_and_saved(page, noisy, tmp_path):
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


def test_what_cannot_be_read_is_said_in_words(page):
    page.set_input_files(
        "#files", [{"name": "words.wav", "mimeType": "audio/wav", "buffer": b"hello"}]
    )
    page.wait_for_selector(".waits.problem")
    assert page.text_content(".waits output").startswith("words.wav: cannot be decoded")


def test_a_server_that_is_gone_is_said_in_words(page):
    page.route("**/v1/enhance*", lambda route: route.abort("failed"))
    page.set_input_files("#files", [{"name": "a.wav", "mimeType": "audio/wav", "buffer": b"hello"}])
    page.wait_for_selector(".waits.problem")
    assert (
        page.text_content(".waits output")
        == "The server does not answer. Is gan-denoise serve still running?"
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Short recordings in files of three formats."""
    folder = tmp_path_factory.mktemp("three")
    return [str(write(folder / name, speech_like(0, 0.3))) for name in ("a.wav", "b.flac", "c.ogg")]


def test_many_files_wait_their_turn_in_a_list_and_are_saved_at_once(page, three):
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


def test_a_busy_server_is_asked_again_when_it_said(page, three):
    answers = iter([429, 503])

    def busy(route):
        status = next(answers, None)
        if status is None:
            return route.continue_()
        return route.fulfill(status=status, headers={"retry-after": "0.1"}, json={"error": "busy"})

    page.route("**/v1/enhance*", busy)
    page.set_input_files("#files", three[:1])
    page.wait_for_selector(".ready:not([hidden])")


def test_a_proxys_refusal_is_said_in_words_and_tried_again(page, three):
    page.route(
        "**/v1/enhance*", lambda route: route.fulfill(status=413, body="<html>Too large</html>")
    )
    page.set_input_files("#files", three[:1])
    page.wait_for_selector(".waits.problem")
    assert "413: the file is too large" in page.text_content(".waits output")
    page.unroute("**/v1/enhance*")
    page.click(".waits .retry")
    page.wait_for_selector(".ready:not([hidden])")


def test_a_wrong_token_is_said(page):
    page.route("**/v1/models", lambda route: route.fulfill(status=401, json={"error": "wrong"}))
    page.reload()
    page.wait_for_selector("#gate:not([hidden])")
    assert page.locator("#problem").is_hidden()  # nobody has given one yet
    page.fill("#token", "wröng €")
    page.click("#gate button")
    until(page, "$('problem').textContent === 'The token is wrong.'")


def test_the_files_of_a_dropped_folder_are_taken(page):
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
def test_a_microphone_that_nobody_waits_for_any_more_is_let_go(page, button):
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
def test_why_there_is_no_microphone_is_said_by_the_errors_name(page, name, words):
    page.evaluate(
        f"""() => {{ navigator.mediaDevices.getUserMedia = async () => {{
            throw new DOMException("", "{name}");
        }}; }}"""
    )
    for button in ("#record", "#speak"):
        page.click(button)
        until(page, f"$('problem').textContent.includes('{words}')")
        assert page.locator(button).get_attribute("data-state") == "idle"


def test_an_unplugged_microphone_is_said_and_what_was_recorded_is_kept(page):
    page.click("#record")
    until(page, "parseFloat($('recorded').textContent) > 0.2")
    page.evaluate("recording.ear.stream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    assert "unplugged" in page.text_content("#problem")
    assert page.locator("#record").get_attribute("data-state") == "idle"
    page.wait_for_selector(".ready:not([hidden])")


def test_another_model_ends_the_live_stream(page):
    page.click("#speak")
    until(page, "speaking.ear?.ready")
    page.evaluate("window.track = speaking.ear.stream.getAudioTracks()[0]")
    page.evaluate("$('model').dispatchEvent(new Event('change'))")
    assert page.evaluate("track.readyState") == "ended"
    assert "another model" in page.text_content("#problem")


def test_the_delay_counts_from_the_hello(page):
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
    assert 32 < int(re.search(r"\d+", page.text_content("#delay"))[0]) < 1500
    page.click("#speak")


def test_colours_are_known_to_browsers_of_2022(page):
    style = page.evaluate("document.querySelector('style').textContent")
    assert "light-dark(" not in style and "color-mix(" not in style
    for scheme, accent in (("light", "#b3400a"), ("dark", "#ff9b5e")):
        page.emulate_media(color_scheme=scheme)
        own = "getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()"
        assert page.evaluate(own) == accent


def frames_of(page) -> tuple[list[bytes], list[bytes]]:
    """Lists that fill with the binary messages that the page's WebSocket sends and receives."""
    sent, received = [], []

    def listen(socket):
        socket.on("framesent", lambda content: sent.append(content))
        socket.on(
            "framereceived",
            lambda content: received.append(content) if isinstance(content, bytes) else None,
        )

    page.on("websocket", listen)
    return sent, received


def test_the_microphone_comes_back_denoised(page, noisy):
    sent, received = frames_of(page)
    page.click("#speak")
    page.wait_for_selector("#delay:not(:empty)")
    assert int(re.search(r"\d+", page.text_content("#delay"))[0]) > 32
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


def test_a_recording_is_made_and_enhanced(page):
    page.click("#record")
    page.wait_for_selector("#recording:not([hidden])")
    until(page, "parseFloat($('recorded').textContent) > 0.6 && $('recording').value > -60")
    assert page.text_content("#record") == "Stop and enhance"
    page.click("#record")
    page.wait_for_selector(".ready:not([hidden])")
    assert page.text_content(".card h3").startswith("recording 1.wav ")
    assert (
        page.evaluate(
            "document.querySelector('.card.room').room.loadBuffers()"
            ".then(([before]) => Math.max(...mono(before)))"
        )
        > 0.01
    )


def test_a_microphone_that_is_denied_is_said_in_words(page):
    page.context.clear_permissions()
    page.click("#speak")
    until(page, "!$('problem').hidden")
    assert "allow it in the address bar" in page.text_content("#problem")
    assert page.text_content("#speak") == "Start the microphone"


def test_a_file_may_come_before_the_models_are_known(page, noisy):
    asked = []
    page.route("**/v1/models", lambda route: asked.append(route))  # answered when continued
    page.reload()
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    asked[0].continue_()
    until(page, "document.getElementById('model').options.length")


def test_it_fits_a_phone_and_the_dark(page, noisy):
    page.set_input_files("#files", [str(noisy)])
    page.wait_for_selector(".ready:not([hidden])")
    page.set_viewport_size({"width": 390, "height": 844})
    for scheme, ink in (("light", "rgb(0, 0, 0)"), ("dark", "rgb(255, 255, 255)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("getComputedStyle(document.body).color") == ink
