"""The command line, `herd`.

Until a command runs, the modules of commands import only errors and each other: help and usage errors need no asyncio.
"""

from __future__ import annotations

from typing import NoReturn

from herdmaster.cli.program import herd
from herdmaster.cli.streams import open_closed_streams


def main() -> NoReturn:
    """Run the command line of this process, and exit with the command's exit code."""
    open_closed_streams()
    herd.main(prog_name="herd")
