"""gridnode: run large language models on the computers you already own, together."""

__version__ = "0.1.0"
