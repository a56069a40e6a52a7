"""Stands in the door: refuses names and pages of strangers, and whoever has no key and needs one.

On loopback nobody needs a key, so a page in a browser on this machine must not reach the door: not by
a name that its owner lets point to 127.0.0.1, and not across origins. From elsewhere a key is needed.
"""

from __future__ import annotations

import contextlib
import functools

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Request
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gridnode.control.door_errors import STATUS_OF, ErrorBody, describe_error
from gridnode.control.door_policy import (
    DoorPolicy,
    client_host,
    host_refusal,
    is_local,
    lasts,
    needed_scope,
)
from gridnode.control.doorkeeper import Doorkeeper, WrongScope
from gridnode.control.keys import ApiKey, Scope
from gridnode.control.login_page import COOKIE, login_page
from gridnode.control.refusals import refuse_at
from gridnode.control.socket_closing import closing_code, closing_reason
from gridnode.errors import BadInput, ErrorCode, GridError, KeyRefused, NoCapacity

# Browsers hold six connections per page; beyond a few dozen pages somebody forgets to close them.
MAX_REQUESTS = 256
# The third kind, `lifespan`, is no request.
_GUARDED = ("http", "websocket")
ADMIT_AGAIN = "admit_again"
"""In the state of a WebSocket: raises `KeyRefused` or `RateLimited` if its key may not ask once more now."""
ANSWER_MORE = "answer_more"
"""In the state of a request: counts so many answers more for its key, until it ends; raises `RateLimited` if
there are as many already, and `BadInput` if they would never be allowed."""

# Beside those that every page may read.
_EXPOSED_HEADERS = (
    *("Retry-After", "Server-Timing"),
    *("X-Gridnode-Route", "X-Gridnode-Context", "X-Gridnode-Reroutes", "X-Gridnode-Drafts"),
)


def guards(policy: DoorPolicy, doorkeeper: Doorkeeper) -> list[Middleware]:
    """Return what stands before every route, outermost first."""
    stack = [Middleware(NameGuard, policy=policy), Middleware(CrowdGuard)]
    if policy.proxies:
        stack.insert(0, Middleware(ProxyHeadersMiddleware, trusted_hosts=list(policy.proxies)))
    if policy.origins:
        # Before keys are asked for: browsers send none with the question whether they may send one.
        # Cookies are for the node's own pages; pages of other origins send a key in a header.
        cors = Middleware(
            CORSMiddleware,
            allow_origins=sorted(policy.origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )
        stack.append(cors)
    return [*stack, Middleware(KeyGuard, policy=policy, doorkeeper=doorkeeper)]


class NameGuard:
    """Middleware: refuses requests under foreign names, and from pages of foreign origins, with 403."""

    def __init__(self, app: ASGIApp, *, policy: DoorPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        reason = host_refusal(scope, self._policy) if scope["type"] in _GUARDED else None
        if reason is None:
            await self._app(scope, receive, send)
        else:
            body = ErrorBody(code=ErrorCode.BAD_INPUT, message=reason)
            await _refuse(refuse_at(scope["path"], body, status=403), reason, scope, receive, send)


class CrowdGuard:
    """Middleware: refuses requests from elsewhere beyond `MAX_REQUESTS` at once, with 503."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._num_running = 0

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] in _GUARDED and self._num_running >= MAX_REQUESTS and not is_local(scope):
            reason = f"this node answers {MAX_REQUESTS} requests at once, and does; try again in a moment"
            body = ErrorBody(code=ErrorCode.NO_CAPACITY, message=reason)
            await _refuse(refuse_at(scope["path"], body), reason, scope, receive, send)
            return
        self._num_running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._num_running -= 1


class KeyGuard:
    """Middleware: lets in requests from this computer, and from elsewhere those whose key allows them."""

    def __init__(self, app: ASGIApp, *, policy: DoorPolicy, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._policy = policy
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Request, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403, 429 or 503."""
        method = scope.get("method", "GET")  # a WebSocket has none
        needed = needed_scope(method, scope["path"]) if scope["type"] in _GUARDED else None
        if needed is None or (is_local(scope) and not self._policy.home_needs_key):
            await self._app(scope, receive, send)
            return
        with contextlib.ExitStack() as stack:
            try:
                address = client_host(scope)
                key = self._doorkeeper.admit(presented_key(scope), needed, address=address)
                if key is None and lasts(scope["path"]):
                    stack.enter_context(self._doorkeeper.listening(address))
                if scope["type"] == "websocket":
                    # Each turn on it counts as a request, of a key that may have been revoked meanwhile.
                    scope.setdefault("state", {})[ADMIT_AGAIN] = functools.partial(
                        self._doorkeeper.admit, presented_key(scope), needed, address=address
                    )
                if needed is Scope.CHAT and (method == "POST" or scope["type"] == "websocket"):
                    stack.enter_context(self._doorkeeper.answering(key))
                    scope.setdefault("state", {})[ANSWER_MORE] = functools.partial(
                        self._answer_more, stack, key
                    )
            except (KeyRefused, NoCapacity) as exc:
                await _refuse(_refusal(scope, exc), str(exc), scope, receive, send)
                return
            await self._app(scope, receive, send)

    def _answer_more(self, stack: contextlib.ExitStack, key: ApiKey | None, num: int) -> None:
        if key is not None and num >= key.max_answers:
            raise BadInput(
                f"{num + 1} answers are asked for, and key {key.id} ({key.name}) may have "
                f"{key.max_answers} at once; ask for fewer at a time"
            )
        for _ in range(num):
            stack.enter_context(self._doorkeeper.answering(key))


def presented_key(scope: Request) -> str:
    """Return the key that a request shows, in whichever of the three ways; empty if none."""
    connection = HTTPConnection(scope)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return connection.headers.get("x-api-key", "").strip() or connection.cookies.get(COOKIE, "")


def _refusal(scope: Request, exc: GridError) -> Response:
    """Return the answer for people if a browser asks for a page, for programs otherwise."""
    status = 403 if isinstance(exc, WrongScope) else STATUS_OF[exc.code]
    wants_page = scope.get("method") == "GET" and "text/html" in Headers(scope=scope).get("accept", "")
    if wants_page and isinstance(exc, KeyRefused):
        query = scope["query_string"].decode("latin-1")
        message = str(exc) if presented_key(scope) else ""
        return login_page(scope["path"] + (f"?{query}" if query else ""), message=message, status=status)
    response = refuse_at(scope["path"], describe_error(exc), status=status)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="gridnode"'  # RFC 6750, section 3
    return response


async def _refuse(response: Response, reason: str, scope: Request, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
    elif "origin" in Headers(scope=scope):
        # A browser tells a page nothing about a socket that was never open: neither status nor body.
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": bytes(response.body).decode()})
        code = closing_code(response.status_code)
        await send({"type": "websocket.close", "code": code, "reason": closing_reason(reason)})
    elif "websocket.http.response" in scope.get("extensions", {}):
        await response(scope, receive, send)
    else:
        # Before it is accepted, this is an HTTP answer 403 (ASGI, section "Close - send event").
        await send({"type": "websocket.close", "code": closing_code(response.status_code)})
