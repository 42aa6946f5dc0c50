"""Says from a snapshot what keeps tasks from running, or may soon. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from herdmaster.inspection.finding import Finding, Severity, critical, note, span, warning
from herdmaster.inspection.queue_findings import queue_findings
from herdmaster.inspection.servers import Answer, ServerSeen
from herdmaster.inspection.snapshot import Snapshot
from herdmaster.inspection.why_waiting import no_primary, unknown_call

_ORDER: Final = {severity: number for number, severity in enumerate(Severity)}
_CLOCK_MS: Final = 5_000
_MAX_REPLY: Final = 0xFFFFF
"""jute.maxbuffer's default."""
_NEAR: Final = 0.75
_SHOWN: Final = 3
_SLOW_MS: Final = 100.0
_OUTSTANDING: Final = 1000
_DESCRIPTORS: Final = 0.8


def diagnose(servers: Sequence[ServerSeen], snapshot: Snapshot | None, others: Iterable[Finding] = ()) -> list[Finding]:
    """Return all findings, the worst first. `snapshot` is None if no server gave a session."""
    found = [*_server_findings(servers), *others]
    if snapshot is None:
        if not any(each.severity is Severity.CRITICAL for each in found):
            found.append(critical("no-session", "no server gives a session", "see the logs of ZooKeeper"))
    else:
        found += _namespace_findings(snapshot)
    return sorted(found, key=lambda each: _ORDER[each.severity])


# --- the servers -----------------------------------------------------------------------------------------------------


def _server_findings(servers: Sequence[ServerSeen]) -> Iterator[Finding]:
    lost = [each for each in servers if each.answer is Answer.UNREACHABLE]
    without = [each for each in servers if each.answer is Answer.NO_QUORUM]
    for each in lost:
        text = f"server {each.address} cannot be reached ({each.error})"
        is_all = len(lost) == len(servers)
        yield (critical if is_all else warning)("server-lost", text, "see whether it runs, and the network to it")
    if without:
        names = ", ".join(each.address for each in without)
        is_all = len(without) + len(lost) == len(servers)
        text = f"no quorum: {names} {'serves' if len(without) == 1 else 'serve'} no requests"
        yield (critical if is_all else warning)("no-quorum", text, "start enough servers for a majority")
    shy = [each.address for each in servers if each.answer is Answer.NOT_ALLOWED]
    if shy:
        yield note("mntr", f"{', '.join(shy)} do not allow mntr", "set 4lw.commands.whitelist=mntr to see their state")
    for each in servers:
        if each.answer is Answer.SERVES:
            yield from _state_findings(each)
    ensemble = [each for each in servers if each.role in ("follower", "observer", "leader")]
    if ensemble and len(ensemble) == len(servers) and not any(each.role == "leader" for each in ensemble):
        yield note("no-leader", "the leader is not in the connect string", "name all servers of the ensemble")
    if servers and all(each.role == "standalone" for each in servers):
        yield note("standalone", "ZooKeeper has one server", "three servers survive the loss of one")


def _state_findings(server: ServerSeen) -> Iterator[Finding]:
    name = server.address
    if server.role == "read-only":
        yield critical(
            "no-quorum", f"{name} is read-only: it has lost the quorum", "start enough servers for a majority"
        )
    latency, waiting = server.number("avg_latency"), server.number("outstanding_requests")
    if latency > _SLOW_MS:
        yield warning(
            "slow", f"{name} takes {latency:.0f} ms for a request on average", "give its log a disk of its own"
        )
    if waiting > _OUTSTANDING:
        yield warning("outstanding", f"{waiting:.0f} requests wait at {name}", "see its load and its disk")
    followers, synced = server.number("followers"), server.number("synced_followers")
    if server.role == "leader" and synced < followers:
        yield warning(
            "not-synced", f"{synced:.0f} of {followers:.0f} followers of {name} are in sync", "see their logs"
        )
    open_files, most = server.number("open_file_descriptor_count"), server.number("max_file_descriptor_count")
    if most and open_files > _DESCRIPTORS * most:
        yield warning("descriptors", f"{name} has {open_files:.0f} of {most:.0f} files open", "raise its limit")


# --- the namespace ---------------------------------------------------------------------------------------------------


def _namespace_findings(snapshot: Snapshot) -> Iterator[Finding]:
    yield from _master_findings(snapshot)
    for view in snapshot.queues:
        count = snapshot.pending[view.queue]
        tasks = "1 task waits" if count == 1 else f"{count} tasks wait"
        since = (
            f" (the oldest for {span(snapshot.now - snapshot.oldest[view.queue])})"
            if view.queue in snapshot.oldest
            else ""
        )
        for found in queue_findings(view):
            yield Finding(found.code, found.severity, f"{tasks}{since}: {found.text}", found.do)
    for call, asked in snapshot.unknown_calls.items():
        yield unknown_call(call, asked)
    if snapshot.suspects:
        names = (f"{name} of {call}" for name, call in list(snapshot.suspects.items())[:_SHOWN])
        yield warning(
            "isolated",
            f"tasks wait for a worker that has nothing else to run, because workers were lost with them: "
            f"{_more(', '.join(names), len(snapshot.suspects))}",
            "wait, start workers, or `herd tasks cancel` them",
        )
    yield from _delayed_findings(snapshot)
    yield from _schedule_findings(snapshot)
    yield from _member_findings(snapshot)
    yield from _znode_findings(snapshot)


def _master_findings(snapshot: Snapshot) -> Iterator[Finding]:
    overview = snapshot.overview
    if overview.primary is None:
        yield no_primary(overview)
        return
    if overview.primary.host is None:
        yield note(
            "reference-primary",
            f"the primary is a {overview.primary.program} reference master",
            "queues, limits and drains have no effect under it; see docs/reference.md",
        )
    if not overview.backups:
        yield note("no-backup", "the primary has no backup", "`herd master` on another machine starts one")
    if overview.tasks.recovering:
        yield warning(
            "recovering",
            f"{overview.tasks.recovering} tasks are in inboxes of lost workers",
            "wait some seconds; if this stays, see the primary's log",
        )
    if snapshot.cancels:
        yield note("cancelling", f"{snapshot.cancels} requests to cancel are not decided yet")


def _delayed_findings(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.overdue:
        yield warning(
            "overdue",
            f"{snapshot.overdue} delayed tasks have been due for more than a minute",
            "see whether there is a primary, and whether the clocks agree",
        )
    elif snapshot.next_due is not None:
        when = span(snapshot.next_due - snapshot.now)
        yield note("delayed", f"{snapshot.delayed} tasks are delayed, the next one for {when}")
    if snapshot.kept_keys:
        yield note(
            "key-held",
            f"{snapshot.kept_keys} of {snapshot.held_keys} keys are held by tasks that have ended",
            "a submission with such a key gets that task; `herd keys` shows and releases keys",
        )
    elif snapshot.held_keys:
        yield note("key-held", f"{snapshot.held_keys} keys are held by tasks that have not ended", "see `herd keys`")
    if snapshot.overview.tasks.dead:
        yield note("dead", f"{snapshot.overview.tasks.dead} tasks are dead", "see `herd dead`")


def _schedule_findings(snapshot: Snapshot) -> Iterator[Finding]:
    late, broken = snapshot.late_schedules, snapshot.broken_schedules
    if late:
        yield warning(
            "schedule-late",
            f"schedules have been due for more than a minute: {_more(', '.join(late[:_SHOWN]), len(late))}",
            "see `herd schedules`: one waits for its last task, say; a primary of an older version makes no tasks",
        )
    if broken:
        shown = "; ".join(f"{name} ({problem})" for name, problem in list(broken.items())[:_SHOWN])
        yield warning(
            "schedule-broken",
            f"schedules that are due cannot be used: {_more(shown, len(broken))}",
            "see `herd schedules`; `herd schedules edit` or `herd schedules remove` them",
        )


def _member_findings(snapshot: Snapshot) -> Iterator[Finding]:
    apart = {name: ms for name, ms in snapshot.clocks.items() if abs(ms) > _CLOCK_MS}
    if apart:
        shown = ", ".join(f"{name} by {ms / 1000:+.0f} s" for name, ms in list(apart.items())[:_SHOWN])
        yield warning(
            "clocks", f"clocks differ from the servers': {_more(shown, len(apart))}", "synchronize them by NTP"
        )
    versions = sorted({worker.version for worker in snapshot.overview.workers if worker.version})
    if len(versions) > 1:
        yield warning("versions", f"workers have different versions: {', '.join(versions)}", "end the upgrade")


def _znode_findings(snapshot: Snapshot) -> Iterator[Finding]:
    for folder, size in snapshot.folders.items():
        if size.reply_bytes > _NEAR * _MAX_REPLY:
            yield warning(
                "long-folder",
                f"the {size.names} names in {folder} take {size.reply_bytes / 1024:.0f} KiB, "
                "and ZooKeeper's own clients read 1024 KiB",
                "raise jute.maxbuffer for Java programs that list it, or keep it shorter",
            )
    if snapshot.foreign:
        shown = ", ".join(snapshot.foreign[:_SHOWN])
        yield note("foreign", f"no role understands {_more(shown, len(snapshot.foreign))}", "delete what is not needed")


def _more(shown: str, count: int) -> str:
    return shown if count <= _SHOWN else f"{shown} and {count - _SHOWN} more"
