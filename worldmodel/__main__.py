"""`python -m worldmodel` is the command `worldmodel`."""

from worldmodel.cli.main import main

main()
