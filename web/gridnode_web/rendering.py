"""From a template and what it shows to an HTTP answer that a browser trusts with nothing."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gridnode import __version__
from gridnode.units import format_bytes, format_seconds
from gridnode_web.coverage import mark_step
from gridnode_web.topology import cache_use
from gridnode_web.wording import ago, count, iso, milliseconds, path_class, plain, state_class

_HERE = Path(__file__).parent

# Everything comes from this node: no inline script or style, no other host, no frame around a page.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _capitalize_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        auto_reload=False,  # a node that runs while its files are updated must not mix old and new
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=ago,
        bytes=format_bytes,
        cache_use=cache_use,
        capitalize_first=_capitalize_first,
        count=count,
        iso=iso,
        mark_step=mark_step,
        ms=milliseconds,
        path_class=path_class,
        plain=plain,
        seconds=format_seconds,
        state_class=state_class,
    )
    environment.globals.update(gridnode_version=__version__)
    return environment


_ENVIRONMENT = _environment()


def page(request: Request, template: str, *, status: int = 200, **shown: object) -> Response:
    """Return the page that `template` makes of `shown`. Templates know the request as `request`."""
    html = _ENVIRONMENT.get_template(template).render(request=request, **shown)
    headers = {**_HEADERS, "Cache-Control": "no-store"}
    return HTMLResponse(html, status, headers=headers)


class _StaticFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        # Asked anew each time and answered 304: a node that was updated must not meet old scripts.
        response.headers["Cache-Control"] = "no-cache"
        return response


def static_files() -> Mount:
    """Return the styles and scripts, at `/static`."""
    return Mount("/static", _StaticFiles(directory=_HERE / "static"), name="static")
