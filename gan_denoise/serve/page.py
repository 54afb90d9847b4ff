"""The page as it is sent: one file, of page.html and the player, and its strict policy."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

_HERE = Path(__file__).parent
PLAYER, STYLE = _HERE / "player.js", _HERE / "player.css"  # the recipe's results page has them too


def html() -> str:
    """page.html with what it includes."""
    text = (_HERE / "page.html").read_text(encoding="utf-8")
    for part in (PLAYER, STYLE):
        text = text.replace(f"/* {part.name} */\n", part.read_text(encoding="utf-8"))
    return text


def policy(page: str, *, files: str = "") -> str:
    """A Content-Security-Policy: a page's own script, style and worklet, and this server.

    files: a source whose scripts, styles and pictures it may load, as "'self'".
    """

    def allowed(tag: str) -> str:
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (
            base64.b64encode(hashlib.sha256(own.encode()).digest()).decode() for own in contents
        )
        return " ".join([*(f"'sha256-{digest}'" for digest in digests), files]).strip() or "'none'"

    return (
        f"default-src 'none'; script-src {allowed('script')} blob:; style-src {allowed('style')}; "
        f"connect-src 'self'; img-src data: {files}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
