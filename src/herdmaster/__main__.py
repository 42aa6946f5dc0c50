"""`python -m herdmaster` is the command `herd`."""

from herdmaster.cli import main

main()
