"""The pages of a node, for people with a browser."""

from __future__ import annotations

from starlette.routing import BaseRoute

from gridnode.control.interface import NodeControl
from gridnode_web.activity_page import activity_route
from gridnode_web.chat_page import chat_routes
from gridnode_web.contributors_page import contributors_route
from gridnode_web.node_page import node_route
from gridnode_web.rendering import static_files
from gridnode_web.swarm_page import swarm_route


def make_pages(control: NodeControl) -> list[BaseRoute]:
    """Return everything that browsers ask for, to be served beside the door of `control`."""
    return [
        swarm_route(control),
        node_route(control),
        *chat_routes(control),
        contributors_route(control),
        activity_route(control),
        static_files(),
    ]
