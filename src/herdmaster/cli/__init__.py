"""The command line, `herd`.

Modules of verbs import nothing of Herdmaster but errors and each other until a verb runs: help and mistakes are
answered without asyncio.
"""

from __future__ import annotations

from typing import NoReturn

from herdmaster.cli.program import herd
from herdmaster.cli.streams import open_closed_streams


def main() -> NoReturn:
    """Runs the command line of this process and ends it with the command's exit code."""
    open_closed_streams()
    herd.main(prog_name="herd")
