"""The web monitor: pages of the door of a node."""
