"""The command `gridnode`: composition for people. Importing it loads nothing heavy."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    from gridnode.cli.app import create_app

    create_app()()
