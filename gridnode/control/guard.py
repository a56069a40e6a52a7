"""Keeps web pages of strangers away from the door.

The door listens on loopback and asks for no key, so a page in a browser on this machine must not
reach it: not by a name that its owner lets point to 127.0.0.1 (DNS rebinding: the `Host` header is
checked), and not across origins (`Origin` is checked; no CORS header is ever sent).
"""

from __future__ import annotations

import ipaddress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gridnode.control.door_errors import ErrorBody
from gridnode.control.door_response import error_response
from gridnode.errors import ErrorCode


class LocalOnly:
    """Middleware: refuses requests that do not name this machine, or come from another origin."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 (RFC 9110, section 15.5.4)."""
        reason = refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
        else:
            body = ErrorBody(code=ErrorCode.BAD_INPUT, message=reason)
            await error_response(body, status=403)(scope, receive, send)


def refusal(headers: Headers) -> str | None:
    """Return why a request with `headers` is refused, or None."""
    host = headers.get("host", "")
    if not is_loopback_name(host_name(host)):
        return f"host {host[:100]!r} is refused: the door answers to localhost and loopback addresses only"
    origin = headers.get("origin")
    # Browsers always tell the origin of a page that posts; programs send none.
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return f"origin {origin[:100]!r} is refused: pages of other origins may not use this node"
    return None


def host_name(host: str) -> str:
    """Return the name or address in a `Host` header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def is_loopback_name(name: str) -> bool:
    """Return whether `name` is `localhost` or a loopback address."""
    try:
        return name.lower() == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
