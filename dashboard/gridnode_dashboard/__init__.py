"""The terminal dashboard: Textual, on top of the door of a node."""
