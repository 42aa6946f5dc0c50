"""`herd client` and `herd submit`: submit tasks from a shell, and print their outcomes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.call_options import CallCommand, call_options, check_call, make_request, read_arguments
from herdmaster.cli.failures import Failed
from herdmaster.cli.help import Command
from herdmaster.cli.options import Duration
from herdmaster.cli.printing import say, say_json
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from herdmaster.api import Future, Herd
    from herdmaster.api.direction import Target
    from herdmaster.api.order import Order
    from herdmaster.cli.call_options import Request

SAMPLES: Final = ("Sample task", "Another sample task")
"""The tasks that the reference's client submits."""

_PATIENCE: Final = 10.0
"""Seconds until a command that waits for an outcome says so."""

_SLACK: Final = 1.0
"""Seconds that a submission may take beyond the attempt to connect, so that a failure to connect is reported first."""

_HOST: Final = r"(?:\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):\d{1,5}"
looks_like_hosts = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/\S*)?").fullmatch
_create_option = click.option("--create", is_flag=True, help="Create the namespace if no program has used it yet.")


@click.command(cls=Command)
@click.argument("data", nargs=-1, metavar="[HOSTS] [DATA]...")
@session_options(log_level="error")
def client(*, data: tuple[str, ...], session: Session) -> None:
    """Submit raw tasks and print their outcomes.

    Each DATA is a task; without DATA, two sample tasks are submitted. Prints `TASK: OUTCOME` for each, in their order.
    The first argument is HOSTS if it looks like host:port; with --zookeeper every argument is DATA. Exits with 1 if a
    task failed.
    """
    if session.given_hosts is None and data and looks_like_hosts(data[0]):
        session, data = session._replace(given_hosts=data[0]), data[1:]
    failed = 0
    with _open(session.find_target(), session.connect_timeout) as herd:
        futures: list[Future[None]] = []
        with _naming_unfinished(futures):
            futures.extend(herd.submit_raw(each.encode("utf-8", "surrogateescape")) for each in data or SAMPLES)
            while futures:
                error = _wait_ended(futures)
                failed += error is not None
                say(f"{futures[0].name}: {'done' if error is None else _outcome(error)}")
                del futures[0]
    if failed:
        click.get_current_context().exit(1)


@click.command(cls=CallCommand)
@click.argument("call", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="ARG...")
@call_options
@click.option("--delay", type=Duration(), metavar="TIME", help="Start the task after this time, such as 5m or 2h.")
@_create_option
@click.option("--wait", is_flag=True, help="Wait for the result and print it as JSON, in place of the task's name.")
@session_options(log_level="error")
def submit(
    *,
    call: str,
    arguments: tuple[str, ...],
    unchecked: bool,
    create: bool,
    wait: bool,
    session: Session,
    **given: Any,  # what the options of a task are, as click converts them
) -> None:
    """Submit one task and print its name.

    MODULE, and the app if --app names one, are imported from the current directory. The task has the queue and the
    other options that its function is registered with, unless they are given here. A function that is not registered,
    and arguments that it does not take, are refused; --unchecked submits anything, from any place.

    The task goes to --zookeeper, else to $HERD_ZOOKEEPER, else where the function's Herd goes. A namespace that no
    program has used yet is refused, unless --create is given.

    An ARG is JSON if it can be read as JSON, else text; NAME=VALUE is a keyword argument. To pass text that looks like
    either, write it as JSON: '"5"', '"a=b"'.
    """
    from herdmaster.cli.submission import make_order

    check_call(call)
    args, kwargs = read_arguments(arguments)
    request = make_request(call, given, session.app, unchecked=unchecked)
    order = make_order(request.callee, args, kwargs, request.options, request.keyring)
    target = session.find_target(request.herd)
    if not create:
        session.refuse_unused(target)
    if wait:
        _submit_and_print(target, request, order, session.connect_timeout)
    else:
        _submit_and_leave(target, request, order, session.connect_timeout)


def _submit_and_leave(target: Target, request: Request, order: Order, connect_timeout: float) -> None:
    import asyncio

    from herdmaster.cli.submission import submit_and_leave
    from herdmaster.core.signing import SignedOnly

    keyring = request.keyring
    name = asyncio.run(
        submit_and_leave(
            target,
            order.new_task,
            connect_timeout=connect_timeout,
            submit_timeout=connect_timeout + _SLACK,
            signed_only=None if keyring is None else SignedOnly(keyring),
        )
    )
    if name != order.task.name:
        click.echo(f"nothing was submitted: {name} holds the key", err=True)
    click.echo(name)


def _submit_and_print(target: Target, request: Request, order: Order, connect_timeout: float) -> None:
    from herdmaster.api.internals import core_of
    from herdmaster.api.submitting import submit_and_wait

    with _open(target, connect_timeout) as herd:
        if request.herd is not None:
            core_of(herd).registry.signing = request.herd.registry.signing
        _print_result(submit_and_wait(core_of(herd), order))


def _print_result(future: Future[object]) -> None:
    from herdmaster.core.values import to_json

    with _naming_unfinished([future]):
        error = _wait_ended([future])
    if error is not None:
        raise Failed(f"{future.name} failed: {_explain(error)}")
    say_json(to_json(future.result(), "the result"))


def _open(target: Target, connect_timeout: float) -> Herd:
    from herdmaster.api import Herd

    return Herd(
        target.hosts,
        connect_timeout=connect_timeout,
        submit_timeout=connect_timeout + _SLACK,
        tls=target.security.tls or False,
    )


def _wait_ended(futures: Sequence[Future[Any]]) -> BaseException | None:
    """Wait for the first task. Return the error that it ended with, or None."""
    from herdmaster.api.future import failure_of

    try:
        return failure_of(futures[0], _PATIENCE)
    except concurrent.futures.TimeoutError:
        waiting = "1 task" if len(futures) == 1 else f"{len(futures)} tasks"
        click.echo(f"still waiting for {waiting}; `herd tasks show {futures[0].name}` says why", err=True)
    return failure_of(futures[0])


@contextlib.contextmanager
def _naming_unfinished(futures: Sequence[Future[None] | Future[object]]) -> Iterator[None]:
    """Name the tasks that were accepted if the wait for them is interrupted: they run all the same."""
    try:
        yield
    except BaseException:
        for future in futures:
            click.echo(f"{future.name} was submitted and goes on", err=True)
        raise


def _outcome(error: BaseException) -> str:
    """Return the outcome as the status of a raw task has it."""
    from herdmaster.errors import HerdError, TaskFailed

    cause = error if isinstance(error, TaskFailed) else error.__cause__
    if isinstance(cause, TaskFailed):
        return f"failed: {cause.type}"
    return str(error) if isinstance(error, HerdError) else f"failed: {type(error).__name__}"


def _explain(error: BaseException) -> str:
    """Return the traceback of the task's code, or the error's text if there is none."""
    from herdmaster.errors import TaskFailed

    cause = error if isinstance(error, TaskFailed) else error.__cause__
    if isinstance(cause, TaskFailed):
        return f"{cause}\n\n{cause.traceback.rstrip()}" if cause.traceback else str(cause)
    return str(error)
