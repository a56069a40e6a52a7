"""What a node is told to do: defaults < system file < user file < environment < flags."""

from gridnode.config.node_config import DEFAULT_API, DEFAULT_LISTEN, DEFAULT_SWARM, NodeConfig

__all__ = ["DEFAULT_API", "DEFAULT_LISTEN", "DEFAULT_SWARM", "NodeConfig"]
