"""The door: the local HTTP interface of a node, its schema and its client."""
