"""The page on which a browser shows its key. It works without JavaScript."""

from __future__ import annotations

import base64
import hashlib
import html
import math
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from gridnode.control.door_errors import STATUS_OF
from gridnode.control.door_policy import client_host
from gridnode.control.doorkeeper import Doorkeeper
from gridnode.errors import BadInput, GridError, RateLimited

COOKIE = "gridnode_key"
COOKIE_MAX_AGE_S = 30 * 24 * 3600
# A key and a path; nothing that a person sends here is longer.
MAX_FORM_BYTES = 4096

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; min-height: 100dvh; }
body { display: grid; place-items: center; }
main { width: min(26rem, 100% - 2rem); }
h1 { font-size: 1.4rem; }
label { display: block; font-weight: 600; }
input, button { font: inherit; box-sizing: border-box; width: 100%; padding: .6rem; border-radius: 8px; }
input { border: 1px solid #888; margin: .3rem 0 1rem; }
button { border: 0; background: #0f766e; color: #fff; cursor: pointer; }
:focus-visible { outline: 3px solid #2dd4bf; outline-offset: 2px; }
[role=alert] { color: light-dark(#b3261e, #ff8a80); overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer: browsers would say that the form comes from origin `null`, which is refused.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gridnode: key</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>This node asks for a key</h1>
{message}<form method="post" action="/login">
<input type="hidden" name="next" value="{next_path}">
<label for="key">Key</label>
<input id="key" name="key" type="password" required autofocus autocomplete="current-password" \
spellcheck="false" placeholder="gn-…">
<button>Open</button>
</form>
<p>On the node’s own computer, <code>gridnode keys create NAME</code> makes a key.</p>
</main>
</body>
</html>
"""


def login_page(next_path: str, *, message: str = "", status: int = 200) -> Response:
    """Return the page; who shows a right key goes on to `next_path`."""
    text = f'<p role="alert">{html.escape(message)}</p>\n' if message else ""
    page = _PAGE.format(style=_STYLE, message=text, next_path=html.escape(next_path))
    return Response(page, status, headers=_HEADERS, media_type="text/html")


def login_routes(doorkeeper: Doorkeeper) -> list[BaseRoute]:
    """Return `/login` and `/logout`."""

    async def show(request: Request) -> Response:
        return login_page("/")

    async def login(request: Request) -> Response:
        fields = parse_qs((await _read_form(request)).decode("utf-8", "replace"))
        secret = fields.get("key", [""])[0].strip()
        next_path = local_path(fields.get("next", ["/"])[0])
        try:
            doorkeeper.check(secret, address=client_host(request.scope))
        except GridError as exc:
            page = login_page(next_path, message=str(exc), status=STATUS_OF[exc.code])
            if isinstance(exc, RateLimited):
                page.headers["Retry-After"] = str(math.ceil(exc.retry_after_s))
            return page
        response = RedirectResponse(next_path, 303)
        response.set_cookie(
            COOKIE,
            secret,
            max_age=COOKIE_MAX_AGE_S,
            httponly=True,
            samesite="strict",
            # Behind a proxy that speaks TLS. Whoever lies here harms themselves only.
            secure=request.headers.get("x-forwarded-proto") == "https",
        )
        return response

    async def logout(request: Request) -> Response:
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return [
        Route("/login", show),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
    ]


def local_path(path: str) -> str:
    """Return `path` if it stays on this node, `/` if a browser could take it for an address elsewhere."""
    # Browsers read `//` and `/\` as the beginning of a host, and skip tabs and line ends.
    if path.startswith("/") and path[1:2] not in ("/", "\\") and path.isprintable():
        return path
    return "/"


async def _read_form(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise BadInput(f"the form is longer than {MAX_FORM_BYTES} bytes")
    return bytes(body)
