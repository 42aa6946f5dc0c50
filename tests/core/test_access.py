from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core import layout
from herdmaster.core.access import (
    KINDS,
    MATRIX,
    MAX_ACL_BYTES,
    Identity,
    Kind,
    Policy,
    Right,
    check_id,
    decode_policy,
    digest_id,
    encode_policy,
    kind_of,
    letters_of,
    rights_of,
)
from herdmaster.core.table import TABLE, Place, Role
from herdmaster.errors import BadPolicy, ConfigurationError
from herdmaster.zookeeper.server import acls

HASH = "E2WgW72KiEUG4R7vIVBkt6SPXyA="
IDENTITIES = {
    Role.CLIENT: Identity.CLIENT, Role.WORKER: Identity.WORKER, Role.PRIMARY: Identity.MASTER,
    Role.OPERATOR: Identity.MASTER,
}  # fmt: skip
KIND_OF_PLACE = {
    Place.TASKS: Kind.TASK, Place.RENAMED: Kind.TASK, Place.DELAYED: Kind.DELAYED_TASK, Place.ASSIGN: Kind.ASSIGNMENT,
    Place.STATUS: Kind.OUTCOME, Place.DEAD: Kind.DEAD_TASK, Place.CANCEL: Kind.CANCEL_REQUEST, Place.KEYS: Kind.KEY,
    Place.HOLDS: Kind.KEY, Place.HOLDS_RENAMED: Kind.KEY, Place.WORKERS: Kind.WORKER, Place.JOURNAL: Kind.JOURNAL,
    Place.ALIVE: Kind.ALIVE, Place.SCHEDULES: Kind.SCHEDULE, Place.TICKS: Kind.TICK, Place.NEXT_TICKS: Kind.TICK,
    Place.FLOWS: Kind.FLOW, Place.FLOW_FOLDERS: Kind.FLOW_RESULTS, Place.FLOW_RUNNING: Kind.FLOW_RUNNING,
    Place.FLOW_CANCEL: Kind.FLOW_CANCEL, Place.FLOW_STATUS: Kind.OUTCOME, Place.RUNNING: Kind.RUNNING_TASK,
    Place.STEPS: Kind.STEP, Place.FOLLOWERS: Kind.STEP, Place.EDGES: Kind.EDGE, Place.RESULTS: Kind.STEP_RESULT,
    Place.PARENT_RESULTS: Kind.STEP_RESULT, Place.FAILED: Kind.FAILED_STEP, Place.PARENT: Kind.ASSIGNMENT,
}  # fmt: skip
BESIDE_THE_TABLE = {
    (Kind.NAMESPACE, Identity.MASTER): "c",  # /master, and folders that were deleted
    (Kind.POLICY, Identity.MASTER): "w",  # `herd access migrate`
    (Kind.MASTERS, Identity.MASTER): "c",
    (Kind.MASTER_RECORD, Identity.MASTER): "w",  # the servers' clock
    (Kind.WORKERS, Identity.WORKER): "cd",  # it registers, and leaves after a drain
    (Kind.WORKER, Identity.WORKER): "w",  # its record
    (Kind.WORKER, Identity.MASTER): "w",  # `herd workers drain`
    (Kind.ASSIGN, Identity.WORKER): "cd",  # its inbox
    (Kind.ASSIGN, Identity.MASTER): "d",  # the inboxes of lost workers
    (Kind.OUTCOME, Identity.MASTER): "d",  # what a Java worker left below a status before the namespace was closed
    (Kind.DEAD, Identity.MASTER): "d",  # the sweep
    (Kind.CANCEL, Identity.CLIENT): "c",
    (Kind.CANCEL, Identity.WORKER): "c",  # the children of a task that exceeded its time limit
    (Kind.CANCEL, Identity.MASTER): "c",  # the last task of a schedule, before the next
    (Kind.KEYS, Identity.CLIENT): "d",  # Herd.release_key
    (Kind.CLIENTS, Identity.CLIENT): "cd",  # its journal
    (Kind.CLIENTS, Identity.MASTER): "d",  # the sweep
    (Kind.JOURNAL, Identity.CLIENT): "cd",  # this session's `alive`, and those of older sessions
    (Kind.ALIVE, Identity.CLIENT): "w",  # the servers' clock
    (Kind.WAITERS, Identity.CLIENT): "cd",
    (Kind.WAITERS, Identity.MASTER): "d",  # the sweep
    (Kind.AWAITED, Identity.CLIENT): "cdw",
    (Kind.QUEUES, Identity.MASTER): "c",
    (Kind.QUEUE, Identity.MASTER): "w",
    (Kind.PROGRESS, Identity.WORKER): "c",
    (Kind.WORKER_PROGRESS, Identity.WORKER): "w",
    (Kind.HISTORY, Identity.WORKER): "c",
    (Kind.HISTORY, Identity.MASTER): "cd",  # merging and the sweep
    (Kind.FLOWS, Identity.MASTER): "d",  # the sweep
    (Kind.FLOW_RESULTS, Identity.MASTER): "d",  # the sweep
}


def policy(**ids: tuple[str, ...]) -> Policy:
    named = {identity: ids.get(identity, (f"digest:{identity}:{HASH}",)) for identity in Identity}
    return Policy.of(named)


def folder_of(kind: Kind) -> Kind:
    return kind_of(kind[: kind.rindex("/")])


def needed_by_the_table() -> dict[tuple[Kind, Identity], Right]:
    needed: dict[tuple[Kind, Identity], Right] = {}

    def add(kind: Kind, role: Role, right: Right) -> None:
        at = (kind, IDENTITIES[role])
        needed[at] = needed.get(at, Right(0)) | right

    for row in TABLE.values():
        for role in row.by:
            for place in row.checks:
                add(KIND_OF_PLACE[place], role, Right.READ)
            for place in row.sets:
                add(KIND_OF_PLACE[place], role, Right.WRITE)
            for place in row.consumes:
                add(folder_of(KIND_OF_PLACE[place]), role, Right.DELETE)
            for place in row.produces:
                add(folder_of(KIND_OF_PLACE[place]), role, Right.CREATE)
    return needed


def test_each_role_may_do_what_the_transition_table_has_it_do() -> None:
    lacking = {at: right for at, right in needed_by_the_table().items() if right & ~MATRIX[at[0]][at[1]]}
    assert lacking == {}


def test_no_identity_may_write_more_than_the_table_and_what_is_listed_here_need() -> None:
    needed = needed_by_the_table()
    writes = Right.WRITE | Right.CREATE | Right.DELETE
    for kind, rights in MATRIX.items():
        for identity, granted in rights.items():
            if kind is not Kind.OTHER:
                allowed = needed.get((kind, identity), Right(0)) & writes
                allowed |= rights_of(BESIDE_THE_TABLE.get((kind, identity), "-"))
                assert letters_of(granted & writes) == letters_of(allowed), f"{identity} on {kind}"


def test_only_a_master_changes_acls_and_it_can_change_all_of_them() -> None:
    for rights in MATRIX.values():
        assert {identity for identity, right in rights.items() if Right.ADMIN in right} == {Identity.MASTER}


def test_an_observer_only_reads() -> None:
    assert {rights[Identity.OBSERVER] for rights in MATRIX.values()} == {Right(0), Right.READ}


def test_every_folder_and_what_is_in_it_has_a_kind() -> None:
    for folder in layout.FOLDERS:
        assert kind_of(folder) == folder, "give the folder a row in the matrix"
        assert kind_of(f"{folder}/x") is not Kind.OTHER, "give what is in the folder a row in the matrix"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", Kind.NAMESPACE),
        ("/master", Kind.MASTER),
        (layout.task_path("task-1"), Kind.TASK),
        (layout.delayed_path(5, "task-1"), Kind.DELAYED_TASK),
        (layout.inbox_path("worker-1"), Kind.INBOX),
        (layout.assignment_path("worker-1", "task-1"), Kind.ASSIGNMENT),
        (layout.alive_path("client-1", -5), Kind.ALIVE),
        (layout.waiter_path("task-1", 5), Kind.WAITER),
        (layout.hold_path("0f", "task-1"), Kind.KEY),
        (layout.history_path("b"), Kind.BATCH),
        ("/status/task-1/status", Kind.OTHER),
        ("/clients/client-1/alive-1/x/y", Kind.OTHER),
        ("/something", Kind.OTHER),
    ],
)
def test_the_kind_of_a_path(path: str, kind: Kind) -> None:
    assert kind_of(path) is kind


def test_each_kind_has_a_row_and_each_path_one_kind() -> None:
    assert list(MATRIX) == list(Kind)
    assert len(KINDS) == len(Kind) - 1


def test_an_id_of_several_identities_has_the_rights_of_all_in_one_entry() -> None:
    both = f"digest:app:{HASH}"
    made = policy(worker=(both,), client=(both,))
    (entry,) = [each for each in made.acl_of(Kind.TASKS) if each.id.startswith("app:")]
    assert letters_of(entry.rights) == "cr"


def test_an_identity_without_rights_has_no_entry() -> None:
    assert [each.id.partition(":")[0] for each in policy().acl_of(Kind.ALIVE)] == ["master", "client"]


def test_a_policy_survives_encoding() -> None:
    made = policy(observer=(), master=("x509:CN=m1,O=x", "sasl:herd/host@REALM"))
    assert decode_policy(encode_policy(made)) == made


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no access policy that this version can read"),
        (b"", "no access policy"),
        (b'{"herd":1}', "missing required field `master`"),
        (b'{"herd":1,"master":[],"worker":[],"client":[]}', "needs the id of a master"),
        (b'{"herd":1,"master":["world:anyone"],"worker":[],"client":[]}', "begin with one of"),
        (b'{"herd":2,"master":["x509:CN=m"],"worker":[],"client":[]}', r"another version \(2\)"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused(data: bytes | None, message: str) -> None:
    with pytest.raises(BadPolicy, match=message):
        decode_policy(data)


@pytest.mark.parametrize(
    "text", ["world:anyone", "CN=m", "", "x509:", "x509: ", "sasl:a\nb", "digest:al", "digest:al:pw", f"digest::{HASH}"]
)
def test_an_id_that_cannot_stand_in_an_acl_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        check_id(text)


def test_ids_that_would_make_acls_too_large_are_refused() -> None:
    many = tuple(f"x509:CN=worker-{number:03},O=example" for number in range(200))
    with pytest.raises(ConfigurationError, match=f"at most {MAX_ACL_BYTES}"):
        policy(worker=many)


@given(st.text(st.characters(categories=("L", "N", "P")), min_size=16, max_size=40))
def test_a_digest_id_is_that_of_the_servers(password: str) -> None:
    assert digest_id("al", password) == acls.digest_id(f"al:{password}".encode()).id
    assert check_id(f"digest:{digest_id('al', password)}")


@pytest.mark.parametrize(("user", "password"), [("", "p" * 16), ("a:b", "p" * 16), ("al", "p" * 15)])
def test_a_digest_id_needs_a_user_and_a_long_password(user: str, password: str) -> None:
    with pytest.raises(ConfigurationError):
        digest_id(user, password)


@given(st.sets(st.sampled_from("cdrwa")))
def test_letters_name_rights(letters: set[str]) -> None:
    assert set(letters_of(rights_of("".join(letters)))) == (letters or {"-"})


@pytest.mark.parametrize("kind", Kind)
def test_an_id_of_several_identities_has_the_rights_of_all_of_them(kind: Kind) -> None:
    shared = "sasl:both"
    policy = Policy.of({
        Identity.MASTER: ("sasl:master",), Identity.WORKER: (shared,), Identity.CLIENT: (shared,),
        Identity.OBSERVER: (),
    })  # fmt: skip
    rights = {each.id: each.rights for each in policy.acl_of(kind)}
    assert rights.get("both", Right(0)) == MATRIX[kind][Identity.WORKER] | MATRIX[kind][Identity.CLIENT]
