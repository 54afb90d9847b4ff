"""The page as it is sent: one file, put together of those in web/, and its strict policy."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from gan_denoise.serve.limits import Limits

_WEB = Path(__file__).parent / "web"
SAMPLE = _WEB / "sample.flac"
PLAYER, STYLE = _WEB / "player.js", _WEB / "player.css"  # the recipe's results page has them too


def html(limits: Limits) -> str:
    """page.html, complete with its scripts, its styles and the limits of a recording.

    A line that is the comment of a file's name is replaced by that file.
    """

    def part(match: re.Match[str]) -> str:
        return (_WEB / match[1]).read_text(encoding="utf-8")

    page = (_WEB / "page.html").read_text(encoding="utf-8")
    page = re.sub(r"^/\* (\w+\.(?:js|css)) \*/\n", part, page, flags=re.MULTILINE)
    longest = f"{limits.max_duration / 3600:.3g} h, all channels together"
    return page.replace("<!-- limits -->", f"up to {longest}, and {limits.max_upload_mb} MiB")


def policy(page: str, *, files: str = "") -> str:
    """A Content-Security-Policy: a page's own script, style and worklet, and this server.

    files: a source whose scripts, styles and pictures it may load, as "'self'".
    """

    def allowed(tag: str) -> str:
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (
            base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            for content in contents
        )
        return " ".join([*(f"'sha256-{digest}'" for digest in digests), files]).strip() or "'none'"

    return (
        f"default-src 'none'; script-src {allowed('script')} blob:; style-src {allowed('style')}; "
        f"connect-src 'self'; media-src blob:; img-src data: {files}; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )
