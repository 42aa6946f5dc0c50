"""ZooKeeper's own command-line client (zkCli) on the embedded server: it sees what it sees on Apache's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from herdmaster.testing.apache import ApacheZooKeeper, ZooKeeperNotInstalled, find_zookeeper
from herdmaster.zookeeper.server import EmbeddedServer
from tests.zookeeper.server.threaded import ServerThread

pytestmark = pytest.mark.apache

_SCRIPT = Path("/usr/share/zookeeper/bin/zkCli.sh")

_SESSION = """
create /demo "hello world"
get /demo
get -s /demo
get -w /demo
set /demo changed
stat -w /demo
set -s /demo again
set -v 0 /demo stale
ls -w /demo
create /demo/child data
create -s /demo/seq- x
create -e /mine me
create -e -s /mine- me
create -c /container
create /demo/child twice
create /none/child x
ls /
ls -s /demo
ls -R /demo
getAcl -s /demo
setAcl /demo/child world:anyone:r
set /demo/child refused
whoami
addauth digest al:pw
create /secret x auth:al:pw:cdrwa
getAcl /secret
addWatch -m PERSISTENT /demo
addWatch -m PERSISTENT_RECURSIVE /container
set /demo watched
create /container/deep x
create /container/deep/er x
removewatches /demo
set /demo unheard
getEphemerals /mine-
getAllChildrenNumber /
sync /
delete /demo
delete /demo/child
deleteall /demo
get /demo
ls /
close
quit
"""


def commands(hosts: str, lines: str) -> tuple[list[str], list[str]]:
    """What the client prints about its lines, and the events that its watcher hears, which come in between."""
    installation = find_zookeeper()
    class_path = ":".join(map(str, installation.jars))
    program = [str(installation.java), "-cp", class_path, "org.apache.zookeeper.ZooKeeperMain", "-server", hosts]
    return split(subprocess.run(program, input=lines, capture_output=True, text=True, timeout=50, check=False))


def split(done: subprocess.CompletedProcess[str]) -> tuple[list[str], list[str]]:
    errors = [
        line for line in done.stderr.splitlines() if not re.match(r"\[|\s|\S+Exception: |log4j|SLF4J|WARNING", line)
    ]
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith(("Connecting", "WATCHER::"))]
    events = [line for line in lines if line.startswith("WatchedEvent")]
    # Whether the client prints its own end before it exits is a race in it.
    heard = [event for event in events if "state:Closed" not in event]
    return [line for line in lines if line not in events] + errors, heard


def normal(lines: list[str]) -> list[str]:
    """Without what no two servers have in common: zxids, times and session ids, but with which of them are equal."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"<{len(names)}>")

    return [re.sub(r"0x(?!0$)[0-9a-f]+", name, re.sub(r"time = .*", "time", line)) for line in lines]


@pytest.mark.timeout(120)
def test_a_session_of_many_lines_reads_as_on_apaches_server(own_apache: ApacheZooKeeper) -> None:
    with ServerThread(EmbeddedServer()) as server:
        embedded, embedded_events = commands(server.hosts, _SESSION)
    apaches, apaches_events = commands(own_apache.hosts, _SESSION)
    assert normal(embedded) == normal(apaches)
    assert embedded_events == apaches_events
    heard = [event for event in embedded_events if "type:None" not in event]
    assert len(heard) == 7
    assert "hello world" in embedded
    assert any("BadVersion" in line or "version No is not valid" in line for line in embedded)


def test_the_packaged_script_creates_lists_and_deletes() -> None:
    if not _SCRIPT.exists():
        pytest.skip(f"Debian's package zookeeper has it at {_SCRIPT}")
    with ServerThread(EmbeddedServer()) as server:
        lines = "create /a one\nls -w /\nget -w /a\nset /a two\ndelete /a\nls /\nquit\n"
        program = [str(_SCRIPT), "-server", server.hosts]
        done = subprocess.run(program, input=lines, capture_output=True, text=True, timeout=50, check=False)
    output, events = split(done)
    assert "[a, zookeeper]" in done.stdout
    assert "one" in output
    assert "[zookeeper]" in output
    assert re.findall(r"type:(\w+) path:(/\w*)", "\n".join(events)) == [
        ("NodeDataChanged", "/a"),
        ("NodeChildrenChanged", "/"),
    ]


@pytest.fixture(autouse=True)
def _java() -> None:
    try:
        find_zookeeper()
    except ZooKeeperNotInstalled as reason:
        pytest.skip(str(reason))
