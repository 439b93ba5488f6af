"""`python -m vidmatte`."""

from vidmatte.cli import main

main()
