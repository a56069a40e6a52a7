"""`python -m gridnode` is the command `gridnode`."""

from gridnode.cli import main

main()
