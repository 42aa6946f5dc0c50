"""The same random operations on the embedded server and on Apache's: replies, errors, stats and events must agree.

What is left out, because 3.8.0, which Debian packages, is not the 3.9 that the embedded server follows, or because a
request harms Apache's server: one-shot and persistent watches of one session on one path, `exists` of a znode that
the session may not read, watch types 4 and 5, `check` outside a multi, and a time to live with flags that have none.

Creates of containers and of znodes with a time to live are among the operations, with their stats and errors; that they
are swept away is not. Each server sweeps by its own clock, so between two sweeps one has a znode that the other lost,
every sweep takes zxids, and all that comes after would differ. tests/conformance waits for sweeps instead.

It runs for half a minute, and in `make proof` for a minute more. `HERD_FUZZ_SECONDS` makes it run longer, `HERD_SEED`
repeats a run. What was compared is printed, whatever else pytest hides.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from herdmaster.testing.apache import ApacheZooKeeper
from herdmaster.zookeeper.model import CREATOR_ALL_ACL, OPEN_ACL, READ_ONLY_ACL, Acl, Id
from herdmaster.zookeeper.server import acls
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request, frame
from herdmaster.zookeeper.wire.multi import Multi, MultiRead
from herdmaster.zookeeper.wire.records import Record, Request
from tests.zookeeper.server.conftest import USERS
from tests.zookeeper.server.differential import LONG, Pair, Side, Twin, open_create
from tests.zookeeper.server.threaded import ServerThread

SECONDS = int(os.environ.get("HERD_FUZZ_SECONDS", "30"))

pytestmark = [pytest.mark.apache, pytest.mark.timeout(SECONDS + 120)]

# --- what is asked ---------------------------------------------------------------------------------------------------

# Below the example's own folder. Malformed ones and ones that never exist among them.
PLAIN = ["/a", "/a/b", "/b", "/a/b/c", "/e", "/s-"]
ODD = ["/a/", "//a", "/.", "/a/..", "/a/./b", "/...", "/é", "/a\0", "/\x1f", "/\ufffe", "/none/x", "/e/x", "/a/"]
ABSOLUTE = ["", "/", "x", "x/y", "/zookeeper/config"]


class Path(msgspec.Struct, frozen=True):
    """A path within the folder of the example, or an absolute one."""

    tail: str
    is_absolute: bool = False

    def under(self, base: str) -> str:
        return self.tail if self.is_absolute else base + self.tail


ALL_PATHS = st.one_of(
    *[st.sampled_from([Path(tail) for tail in PLAIN[:3]])] * 6,
    *[st.sampled_from([Path(tail) for tail in PLAIN])] * 3,
    st.sampled_from([Path(tail) for tail in ODD] + [Path(tail, True) for tail in ABSOLUTE]),
)
DIGEST = (Acl(31, acls.digest_id(b"al:pw")),)
ACLS = st.one_of(
    *[st.just(OPEN_ACL)] * 8,
    st.sampled_from(
        [
            READ_ONLY_ACL,
            CREATOR_ALL_ACL,
            DIGEST,
            DIGEST + READ_ONLY_ACL,
            (),
            (Acl(31, Id("ip", "127.0.0.1")),),
            (Acl(31, Id("ip", "127.0.0.0/8")), Acl(1, Id("world", "anyone"))),
            (Acl(31, Id("ip", "10.0.0.1")),),
            (Acl(31, Id("ip", "1.2.3")),),
            (Acl(31, Id("ip", "127.0.0.1/33")),),
            (Acl(31, Id("digest", "nocolon")),),
            (Acl(31, Id("digest", "a:b:")),),
            (Acl(31, Id("digest", ":b")),),
            (Acl(31, Id("digest", "a:b:c")),),
            (Acl(31, Id("world", "someone")),),
            *[(Acl(31, Id("sasl", text)),) for text in ("al", "bo", "super", "a/b@R", "a@b@c", "")],
            *[(Acl(31, Id("x509", text)),) for text in ("CN=al,O=x", "CN=a+OU=b", "al", "X=al", "CN=al,")],
            (Acl(31, Id("", "")),),
            OPEN_ACL + OPEN_ACL,
            (Acl(5, Id("world", "anyone")), Acl(2, Id("world", "anyone"))),
            (Acl(0, Id("world", "anyone")),),
            (Acl(64, Id("world", "anyone")),),
            (Acl(4, Id("world", "anyone")), Acl(1, Id("world", "anyone"))),
        ]
    ),
)
DATA = st.one_of(st.none(), st.binary(max_size=4))
FLAGS = st.one_of(*[st.sampled_from([0, 0, 1, 2, 3, 4])] * 9, st.integers(-1, 8))
VERSIONS = st.sampled_from([*[-1] * 9, 0, 1, 2, -2])
WATCH = st.sampled_from([False, True, True])

Maker = Callable[[str], Request[Record]]
R = TypeVar("R", bound=Request[Record])


def below(kind: type[R], *fields: st.SearchStrategy[object]) -> st.SearchStrategy[Callable[[str], R]]:
    """Requests about one path, as functions of the example's folder. The root's ACL must stay open for the others."""
    paths = ALL_PATHS.filter(lambda path: path.tail != "/") if kind is records.SetAcl else ALL_PATHS
    return st.tuples(paths, *fields).map(lambda values: lambda base: kind(values[0].under(base), *values[1:]))


CREATES = st.one_of(
    below(records.Create, DATA, ACLS, FLAGS),
    below(records.Create2, DATA, ACLS, FLAGS),
    below(records.CreateContainer, DATA, ACLS, FLAGS),
    below(
        records.CreateTtl, DATA, ACLS, st.sampled_from([5, 6]), st.sampled_from([0, 1, -1, 10**6, 0xFFFFFFFFFF, 2**40])
    ),
)
OTHER_WRITES = st.one_of(
    below(records.Delete, VERSIONS), below(records.Delete, st.just(-1)), below(records.SetData, DATA, VERSIONS)
)
WRITES = st.one_of(CREATES, OTHER_WRITES, below(records.SetAcl, ACLS, VERSIONS))
MULTIS = st.lists(st.one_of(CREATES, OTHER_WRITES, below(records.Check, VERSIONS)), max_size=5).map(
    lambda makers: lambda base: Multi(tuple(make(base) for make in makers))
)
MULTI_READS = st.lists(st.one_of(below(records.GetData, WATCH), below(records.GetChildren, WATCH)), max_size=4).map(
    lambda makers: lambda base: MultiRead(tuple(make(base) for make in makers))
)
READS = st.one_of(
    below(records.Exists, WATCH),
    below(records.GetData, WATCH),
    below(records.GetChildren, WATCH),
    below(records.GetChildren2, WATCH),
    below(records.GetAcl),
    below(records.GetAllChildrenNumber),
    below(records.GetEphemerals),
    below(records.Sync),
    st.sampled_from([lambda base: records.WhoAmI(), lambda base: records.Ping()]),
    MULTI_READS,
)
WATCHES = st.one_of(
    *[below(records.AddWatch, st.sampled_from([*[0, 1] * 8, -1, 2]))] * 3,
    below(records.RemoveWatches, st.sampled_from([1, 2, 3, 0, 6])),
)
AUTHS = st.sampled_from(
    [records.Auth(0, "digest", credential) for credential in (b"al:pw", b"bo:pw:more", b"plain", b"")]
    + [records.Auth(0, scheme, b"x") for scheme in ("ip", "world", "nonsense")]
)


class SetWatches(msgspec.Struct, frozen=True):
    """`back`: how many zxids before the newest one the client claims to have stopped."""

    back: int
    data: tuple[Path, ...]
    exist: tuple[Path, ...]
    child: tuple[Path, ...]
    is_second: bool


class Login(msgspec.Struct, frozen=True):
    """SASL DIGEST-MD5. Only users that exist: see tests/conformance/test_authentication.py."""

    user: str
    is_right: bool


class Garbage(msgspec.Struct, frozen=True):
    """An ordinary request cut short or followed by junk; or an opcode that has no meaning, or none for clients."""

    make: Maker | None
    keep: int
    opcode: int


class Do(msgspec.Struct, frozen=True):
    """Something about the session that `number` picks among those that are not over."""

    number: int
    what: str | Maker | records.Auth | SetWatches | Login | Garbage


PATH_LISTS = st.lists(ALL_PATHS, max_size=3).map(tuple)
UNKNOWN = st.sampled_from([0, 10, 20, 23, 99, 102, 108, 16])
STEPS = st.builds(
    Do,
    st.integers(0, 5),
    st.one_of(
        st.just("rest"),
        *[WRITES] * 9,
        *[MULTIS] * 4,
        *[READS] * 9,
        *[WATCHES] * 3,
        *[st.builds(SetWatches, st.integers(0, 8), PATH_LISTS, PATH_LISTS, PATH_LISTS, st.booleans())] * 2,
        AUTHS,
        st.builds(Login, st.sampled_from(sorted(USERS)), st.sampled_from([True, True, True, False])),
        st.one_of(
            st.builds(Garbage, st.one_of(WRITES, MULTIS, READS, WATCHES), st.integers(0, 60), st.just(0)),
            st.builds(Garbage, st.none(), st.just(0), UNKNOWN),
        ),
        st.sampled_from(("open disconnect reattach " * 3 + "close expire wrong-password from-the-future").split()),
    ),
)


# --- how it is asked -------------------------------------------------------------------------------------------------


class Example:
    """Runs the steps of one example; what would mean something else on 3.8.0 is left out."""

    def __init__(self, pair: Pair, embedded: ServerThread, persistent: frozenset[str]) -> None:
        self._pair = pair
        self._embedded = embedded
        self._persistent = persistent
        self._expiries = 0

    def prepare(self) -> None:
        """Two sessions and a few znodes, so that requests find something."""
        creates = tuple(open_create(self._pair.base + path) for path in PLAIN[:3])
        self._pair.ask(self._pair.twins[0], Multi(creates))
        self._pair.open(LONG)

    def run(self, step: Do) -> None:
        pair = self._pair
        alive = [twin for twin in pair.twins if not twin.is_over]
        if step.what == "open" or not alive:
            if len(alive) < 5:
                pair.open(LONG)
            return
        twin = alive[step.number % len(alive)]
        if isinstance(step.what, str):
            self._session(twin, step.what)
            return
        if twin.wires is None:
            pair.reattach(twin, timeout=LONG)
        if isinstance(step.what, records.Auth):
            if pair.ask(twin, step.what) == -115:
                pair.end(twin, is_over=False)
        elif isinstance(step.what, Login):
            pair.login(twin, step.what.user, USERS[step.what.user] if step.what.is_right else "wrong")
        elif isinstance(step.what, SetWatches):
            self._set_watches(twin, step.what)
        elif isinstance(step.what, Garbage):
            self._garbage(twin, step.what)
        else:
            self._ask(twin, step.what(pair.base))

    def _session(self, twin: Twin, what: str) -> None:
        pair = self._pair
        if what == "disconnect":
            pair.disconnect(twin)
        elif what == "close":
            pair.close(twin)
        elif what == "reattach":
            pair.reattach(twin, timeout=LONG)
        elif what == "from-the-future":
            pair.reattach(twin, timeout=LONG, seen=None)
        elif what == "wrong-password" and twin.wires is None:
            # Apache's cuts an attached connection even then, the embedded one does not.
            pair.reattach(twin, timeout=LONG, right_password=False)
        elif what == "expire" and self._expiries == 0:
            self._expiries += 1
            pair.expire(twin)

    def _ask(self, twin: Twin, request: Request[Record]) -> None:
        if isinstance(request, records.Exists) and not self._may_read(twin, request.path):
            return
        watch = getattr(request, "watch", False)
        if watch and self._is_persistent(request.subject):
            request = msgspec.structs.replace(request, watch=False)
        if isinstance(request, records.AddWatch) and not self._is_persistent(request.path):
            return
        if isinstance(request, records.AddWatch) and request.mode in (0, 1):
            # One mode per path: the newer one would replace the older.
            request = records.AddWatch(request.path, len(request.path) % 2)
        if isinstance(request, records.RemoveWatches) and self._is_persistent(request.path) and request.type in (1, 2):
            return
        self._pair.ask(twin, request)

    def _is_persistent(self, path: str) -> bool:
        return path.removeprefix(self._pair.base) in self._persistent

    def _may_read(self, twin: Twin, path: str) -> bool:
        machine = self._embedded.server.machine
        node = machine.state.tree.find(path)
        connections = [each for each in machine.connections if each.session_id == twin.ids[0] and not each.is_closed]
        return node is None or all(acls.permits(node.acl, acls.READ, each.actor.identities) for each in connections)

    def _set_watches(self, twin: Twin, step: SetWatches) -> None:
        pair = self._pair

        def one_shot(paths: tuple[Path, ...]) -> tuple[str, ...]:
            names = [path.under(pair.base) for path in paths]
            # The root is shared by all examples: whether it changed since says nothing about this one.
            return tuple(name for name in names if not self._is_persistent(name) and name not in ("", "/"))

        lists = one_shot(step.data), one_shot(step.exist), one_shot(step.child)
        persistent = {path for path in self._persistent if path in PLAIN}
        standing = tuple(sorted(pair.base + path for path in persistent if len(pair.base + path) % 2 == 0))
        recursive = tuple(sorted(pair.base + path for path in persistent if len(pair.base + path) % 2 == 1))
        requests: list[Request[Record]] = []
        newest = self._embedded.server.machine.state.zxid - pair.sides[0].origin
        for side in pair.sides:
            since = side.origin + newest - step.back
            if step.is_second:
                requests.append(records.SetWatches2(since, *lists, standing, recursive))
            else:
                requests.append(records.SetWatches(since, *lists))
        pair.ask_each(twin, requests)

    def _garbage(self, twin: Twin, step: Garbage) -> None:
        pair = self._pair
        if step.make is None:
            data = frame(b"\0\0\0\x63" + step.opcode.to_bytes(4, "big") + b"\0\0\0\0" * 6)
            error = pair.exchange(twin, None, lambda wire: wire.socket.sendall(data))
            if error in (-6, -115):  # no such request, or a second token of SASL that answers no challenge
                pair.end(twin, is_over=False)
            return
        request = step.make(pair.base)
        if isinstance(request, records.Exists | records.AddWatch | records.RemoveWatches):
            return
        if getattr(request, "watch", False):
            request = msgspec.structs.replace(request, watch=False)
        whole = encode_request(99, request)[4:]
        body = whole[: 8 + step.keep] if step.keep < len(whole) - 8 else whole + b"junk"
        complete = request if len(body) > len(whole) else None
        pair.exchange(twin, complete, lambda wire: wire.socket.sendall(frame(body)))


# --- the test --------------------------------------------------------------------------------------------------------


class Run:
    """Examples on two servers until the time is over, and what they compared."""

    def __init__(self, sides: tuple[Side, Side], embedded: ServerThread, seconds: float) -> None:
        self._sides = sides
        self._embedded = embedded
        self._deadline = time.monotonic() + seconds
        self._names = itertools.count()
        self.compared = 0
        self.tally: Counter[str] = Counter()

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._deadline

    def check(self, steps: list[Do], persistent: frozenset[str]) -> None:
        if self.is_over:
            return
        pair = Pair(self._sides, f"/d{next(self._names):07d}")
        example = Example(pair, self._embedded, persistent)
        try:
            example.prepare()
            for step in steps:
                example.run(step)
            pair.finish()
        finally:
            self.compared += pair.compared
            self.tally.update(pair.tally)
            pair.abandon()


def test_both_servers_answer_alike(
    fuzzed_embedded: ServerThread,
    private_apache: ApacheZooKeeper,
    record_property: Callable[[str, object], None],
    tell: Callable[[str], None],
) -> None:
    sides = Side("embedded", fuzzed_embedded.port), Side("Apache's", private_apache.port)
    source_seed = os.environ.get("HERD_SEED") or str(random.SystemRandom().getrandbits(32))
    source = random.Random(source_seed)
    run = Run(sides, fuzzed_embedded, SECONDS)
    options = settings(
        max_examples=50,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    found = "no difference"
    try:
        while not run.is_over:
            examples = given(st.lists(STEPS, min_size=25, max_size=80), st.frozensets(st.sampled_from(PLAIN)))
            seed(source.getrandbits(32))(options(examples(run.check)))()
    except BaseException:
        found = "a difference or a failure, which ended it"
        raise
    finally:
        record_property("steps compared", run.compared)
        record_property("found", found)
        tell(f"differential: {run.compared:,} steps compared, {found} (HERD_SEED={source_seed})")
    assert run.compared > 500
    # A comparison of refusals alone would prove little.
    for kind in ("Sasl", "Create", "Delete", "SetData", "SetAcl", "Multi", "GetData", "AddWatch", "SetWatches2"):
        assert run.tally[f"{kind} 0"], kind
    assert all(run.tally[f"event {kind}"] for kind in (1, 2, 3, 4))
