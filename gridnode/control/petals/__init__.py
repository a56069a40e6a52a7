"""The door in the words of Petals' chat: text in, text out, and sessions over WebSocket."""
