"""A client that submits and waits for results until a file appears: `python -m tests.kills.steady_client HOSTS FILE`.

It prints how many tasks have ended, a line for each ten.
"""

from __future__ import annotations

import sys
from pathlib import Path

from herdmaster import Future, Herd

AT_ONCE = 10


def main(hosts: str, until: Path) -> None:
    ended = 0
    with Herd(hosts, session_timeout=4.0) as herd:
        while not until.exists():
            numbers = range(ended, ended + AT_ONCE)
            futures: list[Future[int]] = [herd.submit_call("tests.kills.app:nap", (0.01, number)) for number in numbers]
            results = [future.result(timeout=60) for future in futures]
            assert results == list(numbers), results
            ended += AT_ONCE
            print(ended, flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
