"""The door in Anthropic's words: messages, and how many tokens they have."""
