"""``python -m midstream``: the same as ``midstream``."""

from midstream.cli.app import main

main()
