"""``python -m tood`` is the command line."""

from tood.cli.main import main

main()
