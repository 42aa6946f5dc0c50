"""Access control: who may do what to which znode, and the policy that names the ids of each identity.

The matrix is the only statement of the rights: the ACLs of all znodes, the table in `docs/security.md` and tests derive
from it. A namespace without a policy is open: every znode may be used by every session.

ZooKeeper checks CREATE and DELETE at the parent. So the right to delete one child of a folder is the right to delete
every child of it.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
from collections.abc import Mapping
from typing import Final, Self

import msgspec

from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPolicy, ConfigurationError

POLICY: Final = "/access"
SCHEMES: Final = ("digest", "sasl", "x509")
MAX_ACL_BYTES: Final = 4096
"""The largest ACL on the wire: a task's move, with its payload and an outcome, has to fit a frame with its ACLs."""
MIN_PASSWORD: Final = 16
"""Characters. Every identity reads the hashes of the others, so a password must withstand guessing."""

_VERSION: Final = 1
_ENTRY_OVERHEAD: Final = 12  # of an ACL's entry on the wire: permissions and two lengths
_SHA1_BYTES: Final = 20


class Identity(enum.StrEnum):
    """What a program is in a namespace. Operators act as a master, or as an observer if they only look."""

    MASTER = "master"
    WORKER = "worker"
    CLIENT = "client"
    OBSERVER = "observer"


class Right(enum.IntFlag):
    """The permissions of ZooKeeper, with its numbers."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16


class Kind(enum.StrEnum):
    """The kinds of znodes; the value is how the path is written in documents."""

    NAMESPACE = "/"
    POLICY = "/access"
    MASTER = "/master"
    MASTERS = "/masters"
    MASTER_RECORD = "/masters/M"
    WORKERS = "/workers"
    WORKER = "/workers/W"
    ASSIGN = "/assign"
    INBOX = "/assign/W"
    ASSIGNMENT = "/assign/W/T"
    TASKS = "/tasks"
    TASK = "/tasks/T"
    DELAYED = "/delayed"
    DELAYED_TASK = "/delayed/DUE-T"
    STATUS = "/status"
    OUTCOME = "/status/T"
    DEAD = "/dead"
    DEAD_TASK = "/dead/T"
    CANCEL = "/cancel"
    CANCEL_REQUEST = "/cancel/T"
    KEYS = "/keys"
    KEY = "/keys/K"
    CLIENTS = "/clients"
    JOURNAL = "/clients/C"
    ALIVE = "/clients/C/alive-SESSION"
    WAITERS = "/waiters"
    AWAITED = "/waiters/T"
    WAITER = "/waiters/T/SESSION"
    QUEUES = "/queues"
    QUEUE = "/queues/QUEUE"
    PROGRESS = "/progress"
    WORKER_PROGRESS = "/progress/W"
    HISTORY = "/history"
    BATCH = "/history/BATCH"
    SCHEDULES = "/schedules"
    SCHEDULE = "/schedules/S"
    TICKS = "/ticks"
    TICK = "/ticks/DUE-S"
    FLOWS = "/flows"
    FLOW = "/flows/F"
    FLOW_CANCEL = "/flows/F/cancel"
    FLOW_RUNNING = "/flows/F/running"
    RUNNING_TASK = "/flows/F/running/T"
    FLOW_STEPS = "/flows/F/steps"
    STEP = "/flows/F/steps/S"
    EDGE = "/flows/F/steps/S/P"
    FLOW_RESULTS = "/flows/F/results"
    STEP_RESULT = "/flows/F/results/S"
    FLOW_FAILED = "/flows/F/failed"
    FAILED_STEP = "/flows/F/failed/S"
    OTHER = "any other"


_LETTERS: Final = {"c": Right.CREATE, "d": Right.DELETE, "r": Right.READ, "w": Right.WRITE, "a": Right.ADMIN}


def rights_of(letters: str) -> Right:
    """Return the rights that letters name, as ZooKeeper's shell writes them; `-` names none."""
    rights = Right(0)
    for letter in letters.replace("-", ""):
        rights |= _LETTERS[letter]
    return rights


def letters_of(rights: Right) -> str:
    """Return the letters of rights, `-` for none."""
    return "".join(letter for letter, right in _LETTERS.items() if right in rights) or "-"


K = Kind
_ROWS: Final[tuple[tuple[Kind, str, str, str, str], ...]] = (
    # kind               master   worker  client  observer
    (K.NAMESPACE,        "cra",   "r",    "r",    "r"),
    (K.POLICY,           "rwa",   "r",    "r",    "r"),
    (K.MASTER,           "ra",    "r",    "-",    "r"),
    (K.MASTERS,          "cra",   "-",    "-",    "r"),
    (K.MASTER_RECORD,    "rwa",   "-",    "-",    "r"),
    (K.WORKERS,          "ra",    "cdr",  "r",    "r"),
    (K.WORKER,           "rwa",   "rw",   "-",    "r"),
    (K.ASSIGN,           "dra",   "cd",   "r",    "r"),
    (K.INBOX,            "cdra",  "dr",   "r",    "r"),
    (K.ASSIGNMENT,       "ra",    "rw",   "r",    "r"),
    (K.TASKS,            "cdra",  "c",    "cr",   "r"),
    (K.TASK,             "ra",    "r",    "r",    "r"),
    (K.DELAYED,          "dra",   "c",    "cr",   "r"),
    (K.DELAYED_TASK,     "ra",    "-",    "r",    "r"),
    (K.STATUS,           "cdra",  "c",    "dr",   "r"),
    (K.OUTCOME,          "dra",   "r",    "r",    "r"),
    (K.DEAD,             "cdra",  "c",    "r",    "r"),
    (K.DEAD_TASK,        "ra",    "-",    "r",    "r"),
    (K.CANCEL,           "cdra",  "c",    "c",    "r"),
    (K.CANCEL_REQUEST,   "ra",    "-",    "r",    "r"),
    (K.KEYS,             "cdra",  "d",    "cd",   "r"),
    (K.KEY,              "ra",    "-",    "r",    "r"),
    (K.CLIENTS,          "dra",   "-",    "cd",   "r"),
    (K.JOURNAL,          "ra",    "-",    "cdrw", "-"),
    (K.ALIVE,            "a",     "-",    "rw",   "-"),
    (K.WAITERS,          "dra",   "-",    "cdr",  "r"),
    (K.AWAITED,          "ra",    "-",    "cdrw", "-"),
    (K.WAITER,           "a",     "-",    "-",    "-"),
    (K.QUEUES,           "cra",   "-",    "-",    "r"),
    (K.QUEUE,            "rwa",   "-",    "-",    "r"),
    (K.PROGRESS,         "ra",    "c",    "r",    "r"),
    (K.WORKER_PROGRESS,  "ra",    "w",    "r",    "r"),
    (K.HISTORY,          "cdra",  "c",    "r",    "r"),
    (K.BATCH,            "ra",    "-",    "r",    "r"),
    (K.SCHEDULES,        "cdra",  "r",    "cdr",  "r"),
    (K.SCHEDULE,         "rwa",   "r",    "rw",   "r"),
    (K.TICKS,            "cdra",  "r",    "cdr",  "r"),
    (K.TICK,             "rwa",   "r",    "r",    "r"),
    (K.FLOWS,            "dra",   "-",    "cr",   "r"),
    (K.FLOW,             "cdrwa", "-",    "cdrw", "r"),
    (K.FLOW_CANCEL,      "ra",    "-",    "r",    "r"),
    (K.FLOW_RUNNING,     "cdra",  "cd",   "cr",   "r"),
    (K.RUNNING_TASK,     "ra",    "rw",   "r",    "r"),
    (K.FLOW_STEPS,       "dra",   "c",    "cr",   "r"),
    (K.STEP,             "dra",   "cd",   "cr",   "r"),
    (K.EDGE,             "ra",    "-",    "r",    "r"),
    (K.FLOW_RESULTS,     "dra",   "c",    "r",    "r"),
    (K.STEP_RESULT,      "ra",    "r",    "r",    "r"),
    (K.FLOW_FAILED,      "cdra",  "c",    "dr",   "r"),
    (K.FAILED_STEP,      "ra",    "-",    "r",    "r"),
    (K.OTHER,            "cdrwa", "-",    "-",    "-"),
)  # fmt: skip

MATRIX: Final[Mapping[Kind, Mapping[Identity, Right]]] = {
    kind: {identity: rights_of(letters) for identity, letters in zip(Identity, columns, strict=True)}
    for kind, *columns in _ROWS
}

Place = tuple[str, int]
"""Where a znode is: the name of the folder, and the number of segments of the path."""


def place_of(path: str) -> Place:
    """Return the place of a path in a namespace: all znodes of one place are of one kind."""
    parts = path.split("/", 5)
    folder = f"flows/{parts[3]}" if parts[1] == "flows" and len(parts) > 3 else parts[1]
    return folder, len(parts)


KINDS: Final[Mapping[Place, Kind]] = {place_of(kind): kind for kind in Kind if kind is not Kind.OTHER}


def kind_of(path: str) -> Kind:
    return KINDS.get(place_of(path), Kind.OTHER)


class Entry(msgspec.Struct, frozen=True):
    """An entry of an ACL."""

    scheme: str
    id: str
    rights: Right


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of `/access`: the ids of each identity, as `scheme:id`. An id of several identities has the rights of
    all of them."""

    master: tuple[str, ...]
    worker: tuple[str, ...]
    client: tuple[str, ...]
    observer: tuple[str, ...] = ()
    herd: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for identity in Identity:
            for text in self.ids_of(identity):
                check_id(text)
        if not self.master:
            raise ConfigurationError("an access policy needs the id of a master")
        size = max(map(self.size_of, Kind))
        if size > MAX_ACL_BYTES:
            raise ConfigurationError(f"the ids make ACLs of {size} bytes, and at most {MAX_ACL_BYTES} are possible")

    @classmethod
    def of(cls, ids: Mapping[Identity, tuple[str, ...]]) -> Self:
        """Raises ConfigurationError for ids that ZooKeeper would refuse, or too many."""
        return cls(**{identity.value: tuple(dict.fromkeys(found)) for identity, found in ids.items()}, herd=_VERSION)

    def ids_of(self, identity: Identity) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, identity.value)
        return found

    def acl_of(self, kind: Kind) -> tuple[Entry, ...]:
        """Return the ACL of znodes of a kind. Each id has one entry."""
        rights: dict[str, Right] = {}
        for identity, granted in MATRIX[kind].items():
            for text in self.ids_of(identity):
                rights[text] = rights.get(text, Right(0)) | granted
        return tuple(Entry(*_split(text), granted) for text, granted in rights.items() if granted)

    def size_of(self, kind: Kind) -> int:
        """Return the bytes of a kind's ACL on the wire."""
        return sum(_ENTRY_OVERHEAD + len(each.scheme) + len(each.id.encode()) for each in self.acl_of(kind))


def encode_policy(policy: Policy) -> bytes:
    return msgspec.json.encode(policy)


def decode_policy(data: bytes | None) -> Policy:
    """Raises BadPolicy."""
    try:
        policy = msgspec.json.decode(data or b"", type=Policy)
    except (*UNREADABLE, ConfigurationError) as error:
        raise BadPolicy(
            f"{POLICY} has no access policy that this version can read ({error}): nothing is created"
        ) from None
    if policy.herd != _VERSION:
        raise BadPolicy(f"{POLICY} is of another version ({policy.herd}) than this program knows: nothing is created")
    return policy


def check_id(text: str) -> str:
    """Return an id that is written as `scheme:id`. Raises ConfigurationError for one that cannot stand in an ACL."""
    scheme, name = _split(text)
    if scheme not in SCHEMES:
        raise ConfigurationError(f"{text!r} is no id: it has to begin with one of {', '.join(SCHEMES)} and a colon")
    if not name.strip() or not name.isprintable():
        raise ConfigurationError(f"{text!r} is no id of the scheme {scheme}: nothing printable follows the colon")
    if scheme == "digest" and not _is_digest(name):
        raise ConfigurationError(f"{text!r} is no digest id: that is USER:HASH, which `herd access digest-id` prints")
    return text


def digest_id(user: str, password: str) -> str:
    """Return the digest id, without its scheme, as ZooKeeper computes it. Raises ConfigurationError."""
    if not user or ":" in user or not user.isprintable():
        raise ConfigurationError(f"{user!r} is no user name for a digest id: it must not be empty or have a colon")
    if len(password) < MIN_PASSWORD:
        raise ConfigurationError(
            f"the password has {len(password)} characters, and needs {MIN_PASSWORD}: every program of the namespace "
            "can read its hash"
        )
    # ZooKeeper's protocol fixes SHA-1.
    digest = hashlib.sha1(f"{user}:{password}".encode(), usedforsecurity=False).digest()
    return f"{user}:{base64.b64encode(digest).decode()}"


def as_markdown() -> str:
    """Return the matrix for documents."""
    lines = [f"| znode | {' | '.join(Identity)} |", f"|---|{'---|' * len(Identity)}"]
    for kind, rights in MATRIX.items():
        name = kind.value if kind is Kind.OTHER else f"`{kind}`"
        lines.append(f"| {name} | {' | '.join(letters_of(each) for each in rights.values())} |")
    return "\n".join(lines) + "\n"


def _split(text: str) -> tuple[str, str]:
    scheme, _, name = text.partition(":")
    return scheme, name


def _is_digest(name: str) -> bool:
    user, _, encoded = name.partition(":")
    try:
        return bool(user) and len(base64.b64decode(encoded, validate=True)) == _SHA1_BYTES
    except (binascii.Error, ValueError):
        return False
