"""The same inputs give the same bytes, whatever seed Python hashes with: a simulation can repeat a run."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server.snapshots import snapshot_of
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import Multi
from herdmaster.zookeeper.wire.records import Record, Request
from tests.zookeeper.server.rig import Peer, Rig

_NAMES = [f"/{name}" for name in "abcdefgh"] + [f"/a/{name}" for name in "xyz"]


def random_request(source: random.Random) -> Request[Record]:
    path = source.choice(_NAMES)
    return source.choice(
        (
            records.Create2(path, b"x", OPEN_ACL, source.randrange(4)),
            records.CreateContainer(path, b"x", OPEN_ACL, 4),
            records.Delete(path, -1),
            records.SetData(path, b"y", -1),
            records.GetChildren("/", True),
            records.GetChildren2("/a", True),
            records.Exists(path, True),
            records.AddWatch(path, source.randrange(2)),
            records.SetWatches2(0, (path,), (path,), ("/",), (path,), ("/",)),
            records.GetEphemerals(None),
            records.Auth(0, "digest", path.encode()),
            records.WhoAmI(),
            Multi((records.Create("/s-", b"", OPEN_ACL, 3), records.SetData(path, b"z", -1))),
        )
    )


def fingerprint(seed: int) -> str:
    """Of everything that a busy machine sent to everybody, and of its state."""
    source = random.Random(seed)
    rig = Rig()
    peers: list[Peer] = [rig.client() for _ in range(5)]
    for step in range(1500):
        peer = source.choice(peers)
        if peer.is_closed or source.random() < 0.01:
            rig.disconnect(peer)
            peers.append(rig.client(source.randrange(4000, 9000)))
            peers.remove(peer)
        else:
            peer.request(random_request(source))
        if step % 50 == 0:
            rig.advance(source.randrange(1000))
    for word in (b"dump", b"wchc", b"wchp", b"cons"):
        peer = rig.peer()
        peer.send(word)
        peers.append(peer)
    digest = hashlib.sha256(repr(snapshot_of(rig.state, b"")).encode())
    for peer in peers:
        digest.update(bytes(peer.raw))
    return digest.hexdigest()


@pytest.mark.long
def test_a_run_can_be_repeated_with_any_hash_seed() -> None:
    program = f"from {__name__} import fingerprint; print(fingerprint(7))"
    seen = {fingerprint(7)}
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        seen.add(done.stdout.strip())
    assert len(seen) == 1
    assert fingerprint(8) not in seen
