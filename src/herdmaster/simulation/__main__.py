"""`python -m herdmaster.simulation`: the verb `herd simulate`."""

from __future__ import annotations

import sys

from herdmaster.cli.program import herd

if __name__ == "__main__":
    herd.main(["simulate", *sys.argv[1:]], prog_name="herd")
