"""The Python interface: models of the swarm in the style of `transformers`, and plain asyncio."""
