"""The command: `python -m chaos`."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from types import FrameType
from typing import Final, NoReturn

from chaos.cast import TICK_MS, Cast, Stuck
from chaos.director import Director, Row
from chaos.failover import Failover, Takeovers
from chaos.report import Progress, Report, as_json, table
from chaos.scenarios import SCENARIOS, Scenario
from chaos.stage import Stage
from herdmaster.testing.apache import ServerStartFailed, ZooKeeperNotInstalled

LONG_SESSION: Final = 4.0  # seconds; the most that the servers' ticks allow
SHORT_SESSION: Final = 2.0
RATE: Final = 30.0  # tasks per second and client


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="The whole of Herdmaster, while things break.")
    parser.add_argument("--short", action="store_true", help="a short session timeout, and without the longest ones")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument(
        "--failover", type=int, metavar="N", help="instead: SIGKILL and SIGTERM of the primary, N times"
    )
    parser.add_argument("--seed", type=int, help="of the storm; drawn and printed when it is not given")
    parser.add_argument("--list", action="store_true", help="print the scenarios and end")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--verbose", action="store_true", help="tell of every deed, also where stderr is no terminal")
    options = parser.parse_args(arguments)
    if options.failover is not None and (options.failover < 1 or options.scenario):
        parser.error("--failover takes a number above 0, and no --scenario beside it")
    known = {scenario.name for scenario in SCENARIOS}
    for name in options.scenario or ():
        if name not in known:
            parser.error(f"there is no scenario {name!r}; --list prints them")
    return options


def choose(options: argparse.Namespace, takeovers: list[Takeovers]) -> list[Scenario]:
    if options.failover:

        def play(stage: Stage) -> None:
            takeovers.extend(Failover(stage).repeat(options.failover))

        return [Scenario("failover", "SIGKILL and SIGTERM of the primary, again and again", play)]
    if options.scenario:
        return [scenario for scenario in SCENARIOS if scenario.name in options.scenario]
    return [scenario for scenario in SCENARIOS if not (options.short and scenario.is_long)]


def run(options: argparse.Namespace, progress: Progress) -> Report:
    timeout = SHORT_SESSION if options.short else LONG_SESSION
    load, began = os.getloadavg()[0], time.monotonic()
    rows: list[Row] = []
    takeovers: list[Takeovers] = []
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    with Director(lambda: Cast(session_timeout=timeout, rate=RATE), progress.say, seed) as director:
        for row in director.play(choose(options, takeovers)):
            progress.tell(row)
            rows.append(row)
    return Report(
        session_timeout=timeout,
        tick=TICK_MS / 1000,
        rate=RATE,
        seed=seed,
        cores=os.cpu_count() or 1,
        load_before=round(load, 2),
        load_after=round(os.getloadavg()[0], 2),
        seconds=round(time.monotonic() - began, 1),
        rows=rows,
        takeovers=takeovers,
    )


def main() -> int:
    options = parse()
    if options.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:<20} {scenario.summary}{' (long form only)' if scenario.is_long else ''}")
        return 0
    signal.signal(signal.SIGTERM, _end_in_good_order)
    try:
        report = run(options, Progress(verbose=options.verbose))
    except ZooKeeperNotInstalled as reason:
        print(reason, file=sys.stderr)
        return 2
    except (Stuck, ServerStartFailed) as reason:
        print(f"the cast does not come up: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ended early; all processes are gone", file=sys.stderr)
        return 130
    for line in (as_json(report),) if options.json else table(report):
        print(line)
    return 0 if all(row.is_good for row in report.rows) else 1


def _end_in_good_order(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
