"""The code that runs in the processes of a worker's pool: imports the worker's app, and runs one call after the other.

The app is imported by the name that the worker was given, so it has the same functions as in the worker.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from herdmaster import forks
from herdmaster.core.inputs import Input
from herdmaster.core.modules import import_modules
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import decode_call
from herdmaster.core.run import Lacking, Run, encode_run
from herdmaster.errors import BadSignature, ConfigurationError, HerdError, NotSaved, SavedTooLarge
from herdmaster.pools.messages import NoAnswer
from herdmaster.running import log_fields
from herdmaster.running.current import ProgressReport, WaitReport
from herdmaster.running.delivery import Delivered
from herdmaster.running.hooks import Hooks
from herdmaster.running.invocation import invoke
from herdmaster.running.once import Saved
from herdmaster.running.program import Program, way
from herdmaster.running.registration import Registration
from herdmaster.tracing import find_spans

HANDLER: Final = "herdmaster.running.child:make_handler"
_NOTE_SECONDS: Final = 0.5
"""Between two notes that are sent to the worker."""

SendNote = Callable[[bytes], None]
Ask = Callable[[bytes], bytes]


@runtime_checkable
class App(Protocol):
    """The part of an app that a child process needs. `codecs`, `hooks` and `trace_parent` are looked for, too. A Herd
    returns such an object as `__herdmaster_app__`."""

    @property
    def functions(self) -> Mapping[str, Registration]: ...


class Setting(msgspec.Struct, frozen=True):
    """What a child is told at its start. `app` is `module:attribute`; `imports` are modules that register tasks with
    the app."""

    app: str | None
    prefixes: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """One task for a child, with all options that apply to it, and the inputs of a step."""

    name: str
    payload: bytes
    options: RunOptions
    started: int
    inputs: tuple[Input, ...] = ()


class MayBegin(msgspec.Struct, frozen=True, array_like=True, tag="may begin"):
    """Asks the worker whether the task is still its own. The answer is a bool, as of `Saving.may_begin_once`."""


class Save(msgspec.Struct, frozen=True, array_like=True, tag="save"):
    """Asks the worker to save a result of `once`. The answer is the result that is saved."""

    name: str
    data: bytes


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """The error in place of an answer."""

    kind: str
    text: str


_REFUSALS: Final = {kind.__name__: kind for kind in (NotSaved, SavedTooLarge, ConfigurationError, BadSignature)}
_encoder: Final = msgspec.msgpack.Encoder()
_question_decoder: Final[msgspec.msgpack.Decoder[MayBegin | Save]] = msgspec.msgpack.Decoder(MayBegin | Save)
_answer_decoder: Final[msgspec.msgpack.Decoder[bool | bytes | Refusal]] = msgspec.msgpack.Decoder(
    bool | bytes | Refusal
)
_handover_decoder: Final = msgspec.msgpack.Decoder(Handover)
_note_decoder: Final[msgspec.msgpack.Decoder[ProgressReport | WaitReport]] = msgspec.msgpack.Decoder(
    ProgressReport | WaitReport
)


def encode_handover(task: Delivered) -> bytes:
    return _encoder.encode(Handover(task.name, task.payload, task.options, task.started, task.inputs))


def apply_note(task: Delivered, data: bytes) -> None:
    """Apply a note from a child's code to its task: its progress, or the tasks that it waits for."""
    note = _note_decoder.decode(data)
    if isinstance(note, ProgressReport):
        task.report_progress(note)
    else:
        task.note_waits(note)


def answer_question(task: Delivered, data: bytes, answer: Callable[[bytes], None]) -> None:
    """Answer a question of a child's code about its task, now or later."""

    def saved(result: msgspec.Raw | HerdError) -> None:
        if isinstance(result, HerdError):
            answer(_encoder.encode(Refusal(type(result).__name__, str(result))))
        else:
            answer(_encoder.encode(bytes(result)))

    question = _question_decoder.decode(data)
    try:
        if isinstance(question, Save):
            task.save(question.name, question.data, saved)
        else:
            answer(_encoder.encode(task.may_begin_once()))
    except HerdError as error:
        saved(error)


def make_handler(argument: str) -> Callable[[bytes, SendNote, Ask], bytes]:
    """Make the handler for `herdmaster.pools.processes`. `argument` is a `Setting` as JSON. Raises what the import of
    the app raises."""
    log_fields.install()
    program = load_program(msgspec.json.decode(argument, type=Setting))

    def handle(request: bytes, send_note: SendNote, ask: Ask) -> bytes:
        handover = _handover_decoder.decode(request)
        # The context variables that a task sets are dropped with its copy of the context.
        return encode_run(contextvars.copy_context().run(run_handover, program, handover, Reporter(send_note), ask))

    return handle


def load_program(setting: Setting) -> Program:
    """Import the app and make its program. Raises ConfigurationError if there is no such app or one of `imports` fails,
    and what the app's module raises."""
    if setting.app is None:
        return Program({}, prefixes=setting.prefixes)
    module, _, attribute = setting.app.partition(":")
    app: object = importlib.import_module(module)
    for part in attribute.split("."):
        app = getattr(app, part, None)
    app = getattr(app, "__herdmaster_app__", app)
    if not isinstance(app, App):
        raise ConfigurationError(
            f"{setting.app} is no app: give the worker app='module:attribute', where a Herd stands at the top level"
        )
    import_modules(f"the worker of {setting.app}", setting.imports)
    hooks = getattr(app, "hooks", None)
    spans = find_spans(are_children=getattr(app, "trace_parent", False))
    return Program(
        app.functions,
        prefixes=setting.prefixes,
        codecs=getattr(app, "codecs", None),
        hooks=hooks if isinstance(hooks, Hooks) else None,
        spans=spans,
    )


def run_handover(program: Program, handover: Handover, reporter: Reporter, ask: Ask) -> Run:
    """Run one task. Raises the MemoryError of a task with a memory limit."""
    call = decode_call(handover.payload)
    if handover.inputs:
        call = msgspec.structs.replace(call, inputs=handover.inputs)
    callee = program.find(call.call)
    if callee is None:
        reason = f"{call.call} is registered with the worker, and not in the app that its processes import"
        return Run(Lacking(reason), handover.started, handover.started)
    task = HandedOver(
        handover.name,
        handover.payload,
        0,
        call,
        callee,
        way(handover.options),
        handover.started,
        reporter=reporter,
        ask=ask,
    )
    started = _unix_ms()
    try:
        return Run(invoke(task, callee, call), started, _unix_ms())
    finally:
        reporter.close()


class Reporter:
    """Sends the progress of a task's code, and which tasks it waits for, to the worker. The last note of each kind is
    sent for certain, but not every one."""

    def __init__(self, send_note: SendNote) -> None:
        self._send_note = send_note
        self._generation = forks.generation
        self._lock = threading.Lock()
        self._unsent: dict[type, ProgressReport | WaitReport] = {}
        self._may_send_at = 0.0
        self._timer: threading.Timer | None = None

    def report(self, note: ProgressReport | WaitReport) -> None:
        if forks.generation != self._generation:
            return  # in a forked child, which reports nothing, and where the lock may be held forever
        with self._lock:
            self._unsent[type(note)] = note
            wait = self._may_send_at - time.monotonic()
            if wait <= 0:
                self._send()
            elif self._timer is None:
                timer = threading.Timer(wait, self._send_due)
                timer.daemon = True
                with contextlib.suppress(RuntimeError, MemoryError):  # no room for a thread: a later note is sent
                    timer.start()
                    self._timer = timer

    def close(self) -> None:
        """Drop the notes that were not sent, because the task has ended."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._unsent.clear()

    def _send_due(self) -> None:
        with self._lock:
            self._timer = None
            self._send()

    def _send(self) -> None:
        for note in self._unsent.values():
            self._may_send_at = time.monotonic() + _NOTE_SECONDS
            self._send_note(_encoder.encode(note))
        self._unsent.clear()


class HandedOver(Delivered, kw_only=True):
    """A task that a child runs."""

    reporter: Reporter
    ask: Ask

    def may_begin_once(self) -> bool:
        return self._ask(MayBegin()) is True

    def save(self, name: str, data: bytes, saved: Saved) -> None:
        answer = self._ask(Save(name, data))
        assert isinstance(answer, bytes)
        assert self.call is not None
        result = msgspec.Raw(answer)
        # A new dictionary, because other threads may be reading the old one.
        self.call = msgspec.structs.replace(self.call, saved={**self.saved, name: result})
        saved(result)

    def _ask(self, question: MayBegin | Save) -> bool | bytes:
        """Return the answer. Raises the error in its place."""
        try:
            answer = _answer_decoder.decode(self.ask(_encoder.encode(question)))
        except NoAnswer as error:
            raise NotSaved(f"{self.name}: a result of once() is not saved: {error}") from None
        if isinstance(answer, Refusal):
            raise _REFUSALS.get(answer.kind, NotSaved)(answer.text)
        return answer

    def report_progress(self, progress: ProgressReport) -> None:
        self.reporter.report(progress)

    def begin_wait(self, task: str) -> None:
        super().begin_wait(task)
        self.reporter.report(WaitReport(self.waits_for))

    def end_wait(self, task: str) -> None:
        super().end_wait(task)
        self.reporter.report(WaitReport(self.waits_for))


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
