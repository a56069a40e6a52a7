"""Which request needs what."""

from __future__ import annotations

import pytest
from fake_node import FakeNode
from starlette.routing import Route

from gridnode.config import NodeConfig
from gridnode.control.door import create_door
from gridnode.control.door_policy import needed_scope, policy_of
from gridnode.control.keys import Scope


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/health", None),
        ("POST", "/login", None),
        ("GET", "/static/base.css", None),
        ("GET", "/", Scope.MONITOR),
        ("GET", "/metrics", Scope.MONITOR),
        ("GET", "/api/v1/status", Scope.MONITOR),
        ("HEAD", "/api/v1/events", Scope.MONITOR),
        ("GET", "/chat", Scope.CHAT),
        ("GET", "/chat/models", Scope.CHAT),
        ("POST", "/v1/chat/completions", Scope.CHAT),
        ("GET", "/v1/models", Scope.CHAT),
        ("POST", "/api/chat", Scope.CHAT),
        ("POST", "/api/v1/run", Scope.CHAT),
        ("GET", "/api/v2/generate", Scope.CHAT),
        ("DELETE", "/api/delete", Scope.ADMIN),
        ("POST", "/api/create", Scope.ADMIN),
        ("PUT", "/static", Scope.ADMIN),
        ("POST", "/healthy", Scope.ADMIN),
    ],
)
def test_every_request_has_a_scope(method: str, path: str, scope: Scope | None) -> None:
    assert needed_scope(method, path) is scope


def test_no_route_of_the_door_that_changes_something_is_open() -> None:
    open_posts = {
        route.path
        for route in create_door(FakeNode()).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method not in ("GET", "HEAD") and needed_scope(method, route.path) is None
    }
    assert open_posts == {"/login", "/logout"}


def test_the_policy_of_a_node_is_what_it_was_told() -> None:
    config = NodeConfig(
        api_hosts=("Chat.Example.org", "FD00::0:1"), api_origins=("https://Chat.Example.org",)
    )
    policy = policy_of(config)
    assert policy.hosts == {"chat.example.org", "fd00::1"}
    assert policy.origins == {"https://chat.example.org"}
    assert policy.keys is not None
    assert policy.keys.path.parent == config.state_dir
    assert policy.public_scopes == frozenset()


@pytest.mark.parametrize("proxy", ["proxy.example.org", "*", "10.0.0.1/8", "127.0.0.1:80", ""])
def test_a_proxy_is_named_by_its_address(proxy: str) -> None:
    with pytest.raises(ValueError, match="neither an address nor a network"):
        NodeConfig(api_proxies=(proxy,))


@pytest.mark.parametrize("origin", ["chat.example.org", "https://a.example/", "*", "https://*.example.org"])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"https://chat\.example\.org"):
        NodeConfig(api_origins=(origin,))
