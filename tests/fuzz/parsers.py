"""Every parser of bytes that come from a znode or from a server, with what uses the result first.

Each function takes any bytes, and returns or raises one of the errors that its parser declares. The bytes of names and
paths are text in Latin-1, so that each byte is a character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from herdmaster.codecs import EncryptedCodec
from herdmaster.core import (
    access,
    children,
    chunk,
    expansion,
    flow_graph,
    flows,
    history,
    keys,
    layout,
    members,
    names,
    outcome,
    payload,
    progress,
    queues,
    schedules,
    values,
)
from herdmaster.core.conditions import expiry_of
from herdmaster.core.ending_moves import outcome_of, refuse, step_of
from herdmaster.core.endings import EXPIRED
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.inputs import Input, StepResult, insert
from herdmaster.core.options import RunOptions, apply_overrides
from herdmaster.core.signing import Keyring
from herdmaster.core.timetable import TimetableError, next_due
from herdmaster.core.whereabouts import Waiting
from herdmaster.errors import (
    BadOutcome,
    BadPayload,
    BadPolicy,
    BadSchedule,
    BadSignature,
    PayloadTooLarge,
    ResultTooLarge,
)
from herdmaster.zookeeper import digest_md5
from herdmaster.zookeeper.client.requests import DropConnection, Pending
from herdmaster.zookeeper.client.session import Session
from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.paths import Chroot
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire import framing
from herdmaster.zookeeper.wire.framing import ConnectResponse
from herdmaster.zookeeper.wire.multi import MultiRead, MultiReply
from herdmaster.zookeeper.wire.primitives import Reader
from herdmaster.zookeeper.wire.records import GetChildren2, GetData

KEYRING: Final = Keyring({"2026a": b"k" * 32})
CODEC: Final = EncryptedCodec({"2026a": b"k" * 32})
CORPUS: Final = Path(__file__).with_name("corpus")
CALL: Final = "task-01jd0000000000000000000001.mail"
FLOW: Final = "flow-01jd0000000000000000000002"
STEP: Final = flows.step_task(1_700_000_000_000, FLOW, "7", "mail", 5)
RAW: Final = "task-0000000001"
MOST_MS: Final = 10**13


class Parser(NamedTuple):
    """A parser, and the errors that it may raise. Its corpus is the folder of its name: inputs that it reads."""

    name: str
    parse: Callable[[bytes], object]
    raises: tuple[type[Exception], ...] = ()

    @property
    def corpus(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted((CORPUS / self.name).iterdir())]

    def try_on(self, data: bytes) -> bool:
        """Return whether the data could be read. Raises every error that the parser does not declare."""
        try:
            self.parse(data)
        except self.raises:
            return False
        return True


def _show(unix_ms: int | None) -> None:
    if unix_ms is not None:
        datetime.fromtimestamp(unix_ms / 1000, UTC)


def _call(data: bytes) -> None:
    call = payload.decode_call(data)
    _show(call.due)
    _show(call.expires)
    assert 1 <= call.attempt < MOST_MS
    payload.encode_call(call)
    changed = payload.with_attempt(payload.after_loss(data, "worker-1"), 5)
    changed = payload.with_asked(payload.with_start(payload.with_isolation(changed), "worker-1"), "worker-1")
    payload.decode_call(payload.with_error(changed, ErrorInfo("E", "message", "traceback")))
    payload.for_replay(CALL, data)
    options = apply_overrides(RunOptions(), call.options)
    for seconds in (options.timeout, options.soft_timeout, options.backoff, options.max_backoff, call.ttl):
        assert seconds is None or int(seconds * 1000) < MOST_MS
    msgspec.json.encode(options)


def _arguments(data: bytes) -> None:
    call = payload.decode_call(data)
    payload.decode_arguments(call)
    if call.chunk:
        for each in chunk.split_chunk(call):
            payload.decode_arguments(each)


def _peek(data: bytes) -> None:
    """What a primary looks at, which never raises."""
    payload.call_of(data)
    payload.asked_of(data)
    payload.is_alone(data)
    assert expiry_of(f"{CALL}.c", data) is None or isinstance(expiry_of(f"{CALL}.c", data), int)


def _outcome(data: bytes) -> None:
    found = outcome.decode_outcome(CALL, data)
    _show(found.started)
    _show(found.ended)
    outcome.exception_of(found)
    outcome.encode_outcome(CALL, found)
    outcome.decode_result(found)


def _results(data: bytes) -> None:
    chunk.split_results(msgspec.Raw(data), 2)


def _raw_outcome(data: bytes) -> None:
    outcome.exception_of(outcome.decode_outcome(RAW, data))


def _batch(data: bytes) -> None:
    found = history.read_batch("1700000000000-0", data)
    if found is not None:
        _show(found.begins)
        merged = history.merge_batches([found, found])
        assert len(history.encode_batch(merged)) <= history.MAX_BATCH
        for each in merged.counts:
            each.running.quantile(0.5)


def _member(data: bytes) -> None:
    members.worker_state(data)
    for found in (members.decode_worker(data), members.decode_master(data)):
        if found is not None:
            _show(found.since)
            members.encode_record(found)


def _progress(data: bytes) -> None:
    found = progress.decode_progress(data)
    assert 0 <= found.running < MOST_MS
    for task in found.tasks:
        _show(task.since)
    progress.encode_progress(found.tasks)


def _queue(data: bytes) -> None:
    found = queues.decode_queue(data)
    if found is not None:
        queues.describe_queue(found)
        queues.encode_queue(found)


def _key(data: bytes) -> None:
    keys.decode_record(data)


def _schedule(data: bytes) -> None:
    due = next_due(schedules.decode_schedule(data).timetable, 1_700_000_000_000)
    _show(due)


def _signed_call(data: bytes) -> None:
    """What is verified is the call that was signed, however its bytes were changed."""
    KEYRING.verify_task(CALL, data)
    call = payload.decode_call(data)
    assert (call.call, bytes(call.args), bytes(call.kwargs)) == ("m:f", b"[1]", b"{}")
    assert (call.options, call.key, call.expires, call.chunk) == (None, None, None, False)


def _signed_outcome(data: bytes) -> None:
    body, is_signed = KEYRING.open_outcome(CALL, data)
    found = outcome.decode_outcome(CALL, body)
    assert not is_signed or (found.state, found.result) == (outcome.OutcomeState.DONE, msgspec.Raw(b"5"))


def _flow(data: bytes) -> None:
    header = flows.decode_header(data)
    _show(header.created)
    _show(header.ended)
    flows.encode_header(header)


def _step(data: bytes) -> None:
    """A step that ends and is run again stays below its own flow."""
    found = step_of(STEP, data)
    move = refuse(Waiting(STEP), data, EXPIRED)
    outcome_of(move)
    if found is not None:
        assert all(re.fullmatch(r"/(tasks/task-[^/]+|flows/flow-[^/]+/(failed|running)/[^/]+)", each.path)
                   for each in move.operations)  # fmt: skip
        flows.note_of(found)
    call = payload.decode_call(payload.for_next_run(payload.with_start_of_step(data, 5, ("1",))))
    if call.flow is not None:
        names.parse_task_name(flows.task_of(call.flow, call.run))
        args, kwargs = payload.decode_arguments(call)
        for reference in call.flow.refs:
            given = Input(reference.at, reference.step, (StepResult(b"1"),), reference.each)
            insert(args, kwargs, given, lambda result: result)


def _each(data: bytes) -> None:
    """An `each` whose payload is anything."""
    call = payload.decode_call(data)
    if call.flow is not None:
        over = Input((), "3", (StepResult(b"[1,2]"),))
        chunk = None if call.flow.each is None else call.flow.each.chunk
        args = expansion.plain_args(expansion.template_of(call.flow), over, chunk)
        made = expansion.Expansion(
            call.flow, STEP, args, made=expansion.Made(), now_ms=5, sign=lambda _task, payload: payload
        )
        assert made.next_batch(0).done == made.count


def _running(data: bytes) -> None:
    """The data of `running/T`."""
    made = expansion.progress_of(data)
    assert 0 <= made.steps < 10**15
    assert expansion.progress_of(expansion.with_progress(data, made)) == made


def _signed_step(data: bytes) -> None:
    KEYRING.verify_task(STEP, data)
    call = payload.decode_call(data)
    assert call.flow is not None
    assert (call.flow.flow, call.flow.step, call.flow.task, call.flow.joins) == (FLOW, "7", STEP, ("8",))


def _child(data: bytes) -> None:
    """The data of a request to cancel a child, and the answer to its save. Paths are made of both."""
    parent = children.decode_parent(data)
    assert parent is None or layout.split_assignment(layout.assignment_path(*parent)) == parent
    path = children.assignment_of(CALL, data)
    assert path is None or layout.split_assignment(path) is not None


def _saved(data: bytes) -> None:
    """A payload with results of `once`, and with children."""
    for child in children.children_of(data):
        assert names.has_outcome(child)
    call = payload.decode_call(data)
    payload.decode_call(payload.with_saved(data, call.saved or {}))


def _encrypted(data: bytes) -> None:
    """What is decrypted is what was encrypted, however its bytes were changed."""
    assert CODEC.decode(data) == [1, "a"]


def _tick(data: bytes) -> None:
    found = schedules.decode_tick(data)
    _show(found.due_ms)
    _show(found.made_ms)
    schedules.encode_tick(found)


def _policy(data: bytes) -> None:
    policy = access.decode_policy(data)
    for kind in access.Kind:
        policy.acl_of(kind)


def _value(data: bytes) -> None:
    values.from_json(data)


def _name(data: bytes) -> None:
    text = data.decode("latin-1")
    names.parse_task_name(text)
    names.queue_and_priority(text)
    names.parse_worker_name(text)
    names.parse_master_name(text)
    names.parse_client_name(text)
    names.parse_schedule_name(text)
    names.ulid_time_ms(text)
    if names.parse_flow_name(text) is not None or names.parse_step_id(text) is not None:
        assert "/" not in text
    flow_graph.step_of(text)
    flow_graph.parent_of(text)
    keys.parse_hold_name(text)
    queues.parse_queue_name(text)
    _show(history.parse_batch_name(text))
    found = layout.parse_delayed_name(text)
    _show(None if found is None else found[0])
    layout.parse_tick_name(text)
    layout.split_assignment(text)


def _stream(data: bytes) -> None:
    """Frames from a server, in pieces, and everything that is read from one."""
    framer = framing.Framer(1024 * 1024)
    for piece in _pieces(data):
        for body in framer.feed(piece):
            _reply(body)


def _pieces(data: bytes) -> Iterator[bytes]:
    size = max(7, len(data) // 50)
    return (data[start : start + size] for start in range(0, len(data), size))


def _reply(data: bytes) -> None:
    framing.unpack_reply_header(data)
    framing.decode_event(data)


def _handshake(data: bytes) -> None:
    framing.ConnectResponse.decode(data)


def _request(data: bytes) -> None:
    framing.decode_request(data)


def _multi(data: bytes) -> None:
    MultiReply.read(Reader(data))


def _session(data: bytes) -> None:
    """A session with requests under way gets these bytes from its server."""
    session = Session(timeout=10.0, connect_timeout=10.0, chroot=Chroot())
    session.connection_made(0.0)
    session.take_output(0.0)
    session.receive(ConnectResponse(10_000, 7, b"p" * 16).encode(), 0.0)
    for request in (GetData("/a", False), GetChildren2("/a", False), MultiRead((GetData("/a", False),))):
        session.enqueue(Pending(request, lambda *_: None))
    session.take_output(0.0)
    for piece in _pieces(data):
        if any(isinstance(event, DropConnection) for event in session.receive(piece, 1.0)):
            break
    session.connection_lost(2.0)


def _sasl_challenge(data: bytes) -> None:
    digest_md5.Client("user", Secret(b"password"), "cnonce").answer(data)


def _sasl_server() -> digest_md5.Server:
    return digest_md5.Server("nonce", lambda _user: Secret(b"password"))


def _sasl_response(data: bytes) -> None:
    _sasl_server().verify(data)


def _sasl_proof(data: bytes) -> None:
    client = digest_md5.Client("user", Secret(b"password"), "cnonce")
    client.answer(_sasl_server().challenge())
    client.verify(data)


PARSERS: Final = [
    Parser("call", _call, (BadPayload, PayloadTooLarge)),
    Parser("arguments", _arguments, (BadPayload,)),
    Parser("peek", _peek),
    Parser("outcome", _outcome, (BadOutcome, ResultTooLarge)),
    Parser("results", _results, (BadOutcome,)),
    Parser("raw_outcome", _raw_outcome, (BadOutcome,)),
    Parser("batch", _batch),
    Parser("member", _member),
    Parser("progress", _progress),
    Parser("queue", _queue),
    Parser("key", _key),
    Parser("schedule", _schedule, (BadSchedule, TimetableError)),
    Parser("signed_call", _signed_call, (BadSignature, BadPayload)),
    Parser("signed_outcome", _signed_outcome, (BadSignature, BadOutcome)),
    Parser("flow", _flow, (BadPayload,)),
    Parser("step", _step, (BadPayload,)),
    Parser("each", _each, (BadPayload,)),
    Parser("running", _running),
    Parser("signed_step", _signed_step, (BadSignature, BadPayload)),
    Parser("child", _child),
    Parser("saved", _saved, (BadPayload,)),
    Parser("encrypted", _encrypted, (ValueError,)),
    Parser("tick", _tick, (BadSchedule,)),
    Parser("policy", _policy, (BadPolicy,)),
    Parser("value", _value, values.UNREADABLE),
    Parser("name", _name),
    Parser("frames", _stream, (WireError,)),
    Parser("session", _session),
    Parser("handshake", _handshake, (WireError,)),
    Parser("request", _request, (WireError,)),
    Parser("multi", _multi, (WireError,)),
    Parser("sasl_challenge", _sasl_challenge, (digest_md5.SaslError,)),
    Parser("sasl_response", _sasl_response, (digest_md5.SaslError,)),
    Parser("sasl_proof", _sasl_proof, (digest_md5.SaslError,)),
]
