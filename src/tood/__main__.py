"""``python -m tood`` runs the command line."""

from tood.cli.main import main

main()
