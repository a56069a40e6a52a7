"""Pure: bytes to messages and back, and the protocol machines between them."""
