"""The Python interface in the style of `transformers`."""
