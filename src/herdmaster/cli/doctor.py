"""`herd doctor`: says what keeps tasks from running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from herdmaster.cli.help import Command
from herdmaster.cli.options import json_option
from herdmaster.cli.printing import say, say_json, say_left_out
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from herdmaster.inspection.finding import Finding
    from herdmaster.inspection.servers import ServerSeen
    from herdmaster.inspection.snapshot import Snapshot
    from herdmaster.zookeeper.client import Client, Security
    from herdmaster.zookeeper.client.connect_string import Address

_COLOURS: Final = {"critical": "red", "warning": "yellow", "note": "cyan"}
_CODES: Final = {"critical": 2, "warning": 1}
_SERVER_SECONDS: Final = 3.0


@click.command(cls=Command)
@json_option
@session_options(positional=True, log_level="error")
def doctor(*, as_json: bool, session: Session) -> None:
    """Say what keeps tasks from running, or may soon, and what to do. Changes nothing.

    Looks at the servers of ZooKeeper, masters, queues, workers, keys, clocks, names and security. Each finding is one
    line.

    The exit code is 0 if there is nothing but notes, 1 if there are warnings, 2 if something is critical.
    """
    import os

    import msgspec

    from herdmaster.api.signing_keys import VARIABLE
    from herdmaster.inspection.diagnosis import diagnose
    from herdmaster.inspection.security_findings import look_at_security, security_findings
    from herdmaster.zookeeper.client import parse_connect_string

    target = session.find_target()
    session = session._replace(given_hosts=target.hosts)
    addresses = parse_connect_string(target.hosts).addresses
    servers, snapshot, is_open = _look(session, addresses, target.security)
    keys = [os.environ[VARIABLE]] if os.environ.get(VARIABLE) else []
    security = security_findings(look_at_security(addresses, target.security, keys), namespace_is_open=is_open)
    findings = diagnose(servers, snapshot, security)
    for finding in findings:
        say_json(msgspec.json.encode(finding)) if as_json else say(_line(finding))
    if not as_json:
        say(_summary(findings, servers, snapshot))
    click.get_current_context().exit(max((_CODES.get(each.severity, 0) for each in findings), default=0))


def _look(
    session: Session, addresses: Sequence[Address], security: Security
) -> tuple[Sequence[ServerSeen], Snapshot | None, bool]:
    """Return what the servers and the namespace show, and whether the namespace is open."""
    import asyncio

    from herdmaster.inspection.reading import Unreadable
    from herdmaster.inspection.security_findings import is_open
    from herdmaster.inspection.servers import look_at_servers
    from herdmaster.inspection.snapshot import take_snapshot
    from herdmaster.zookeeper.errors import NoServerReachable

    seconds = min(session.connect_timeout, _SERVER_SECONDS)
    servers = asyncio.run(look_at_servers(addresses, seconds, security.tls))
    unreadable = Unreadable()

    async def look(client: Client) -> tuple[Snapshot, bool]:
        return await take_snapshot(client, unreadable), await is_open(client)

    try:
        snapshot, namespace_is_open = session.run(look)
    except NoServerReachable as error:
        say(f"{error}", err=True)
        return servers, None, False
    finally:
        say_left_out(unreadable)
    return servers, snapshot, namespace_is_open


def _line(finding: Finding) -> str:
    severity = click.style(f"{finding.severity:<8}", fg=_COLOURS[finding.severity])
    return f"{severity}  {finding}"


def _summary(findings: Sequence[Finding], servers: Sequence[ServerSeen], snapshot: Snapshot | None) -> str:
    """Return what was looked at, in one line."""
    states = ", ".join(f"{each.address} {each.role or each.answer.value}" for each in servers)
    if snapshot is None:
        return f"looked at: {states}"
    overview = snapshot.overview
    tasks = f"{overview.tasks.backlog} tasks wait, {overview.tasks.assigned} are with {len(overview.workers)} workers"
    is_well = "" if any(each.severity in _CODES for each in findings) else "; nothing keeps tasks from running"
    return f"looked at: {states}; {tasks}{is_well}"
