"""Ollama's dialect of the door: https://github.com/ollama/ollama/blob/main/docs/api.md."""
