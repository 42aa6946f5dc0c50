"""`herd client` and `herd submit`: from a shell to a task and its outcome."""

from __future__ import annotations

import concurrent.futures
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.options import Duration, choose_hosts, connect_timeout_option, log_options, zookeeper_option
from herdmaster.cli.printing import say

if TYPE_CHECKING:
    from herdmaster.api import Future, Herd
    from herdmaster.api.options import TaskOptions

SAMPLES: Final = ("Sample task", "Another sample task")
"""What the reference's client submits."""

_PATIENCE: Final = 10.0
_SLACK: Final = 1.0
"""Seconds that a submission may take beyond the attempt to connect, so that the reason is known when it is over."""

_HOST: Final = r"(?:\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]+):\d{1,5}"
looks_like_hosts = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/\S*)?").fullmatch
_keyword = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL).fullmatch
_negative_number = re.compile(r"-\.?\d").match


@click.command
@click.argument("data", nargs=-1, metavar="[HOSTS] [DATA]...")
@zookeeper_option
@connect_timeout_option(10)
@log_options("error")
def client(
    *, data: tuple[str, ...], hosts: str | None, connect_timeout: float, log_level: str, log_format: str
) -> None:
    """Submit raw tasks and print their outcomes.

    Each DATA is a task, two samples where there is none; `TASK: OUTCOME` is printed for each, in their order.
    The first argument is HOSTS if it looks like host:port; with --zookeeper all are DATA. Exits with 1 if one failed.
    """
    from herdmaster.cli.logs import configure_logs

    configure_logs(log_level, log_format)
    if hosts is None and data and looks_like_hosts(data[0]):
        hosts, data = data[0], data[1:]
    failed = 0
    with _open(choose_hosts(hosts), connect_timeout) as herd:
        futures: list[Future[None]] = []
        with _naming_what_goes_on(futures):
            futures.extend(herd.submit_raw(each.encode("utf-8", "surrogateescape")) for each in data or SAMPLES)
            while futures:
                error = _wait_ended(futures)
                failed += error is not None
                say(f"{futures[0].name}: {'done' if error is None else _outcome(error)}")
                del futures[0]
    if failed:
        click.get_current_context().exit(1)


class SubmitCommand(click.Command):
    """Takes `-5` for an argument, and still refuses a mistyped option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        for arg in args[: args.index("--")] if "--" in args else args:
            name = arg.partition("=")[0]
            if name.startswith("-") and name not in known and not _negative_number(name):
                raise click.NoSuchOption(
                    name, f"No such option: {name}; an argument that starts with a hyphen goes after `--`", ctx=ctx
                )
        return super().parse_args(ctx, args)


@click.command(cls=SubmitCommand)
@click.argument("call", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="ARG...")
@zookeeper_option
@click.option("--queue", metavar="NAME", help="The queue it goes to.  [default: the registered one, or `default`]")
@click.option(
    "--priority",
    type=click.IntRange(0, 9),
    metavar="N",
    help="9 runs first; within its queue.  [default: the registered one, or 5]",
)
@click.option("--delay", type=Duration(), metavar="TIME", help="It starts so long from now, such as 5m or 2h.")
@click.option("--expires", type=Duration(), metavar="TIME", help="Ends as expired if it has not started by then.")
@click.option("--timeout", type=Duration(), metavar="TIME", help="It is ended when it has run for so long.")
@click.option("--max-attempts", type=click.IntRange(1), metavar="N", help="So often it is tried in all.")
@click.option("--key", metavar="TEXT", help="Submit nothing while another task or its outcome holds this key.")
@click.option(
    "--key-scope", type=click.Choice(("call", "global")), help="Of this function (call, the default) or of all of them."
)
@click.option(
    "--key-holds",
    type=click.Choice(("done", "always")),
    help="A task that fails, expires or is cancelled frees its key (done, the default) or holds it, too (always).",
)
@click.option("--no-import", is_flag=True, help="Do not look here for what the function is registered with.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it, as JSON, instead of the name.")
@connect_timeout_option(10)
@log_options("error")
def submit(
    *,
    call: str,
    arguments: tuple[str, ...],
    hosts: str | None,
    no_import: bool,
    wait: bool,
    connect_timeout: float,
    log_level: str,
    log_format: str,
    **given: Any,
) -> None:
    """Submit one task and print its name.

    MODULE need not be here. Where it is, it is imported, and the task has the queue and the other options that its
    function is registered with, unless they are given here. The hosts of its Herd are not among these: the task goes
    to --zookeeper, else $HERD_ZOOKEEPER, else 127.0.0.1:2181.

    An ARG is JSON where it can be read as JSON, else text; NAME=VALUE is a keyword argument. To pass text that looks
    like either, write it as JSON: '"5"', '"a=b"'.
    """
    from herdmaster.cli.logs import configure_logs

    configure_logs(log_level, log_format)
    check_call(call)
    args, kwargs = read_arguments(arguments)
    call, options = choose_options(call, given, may_import=not no_import)
    if wait:
        from herdmaster.api.callee import Callee

        with _open(choose_hosts(hosts), connect_timeout) as herd:
            _print_result(herd.submit_task(Callee(call), args, kwargs, options))
    else:
        import asyncio

        from herdmaster.cli.submission import make_task, submit_and_leave

        task = make_task(call, args, kwargs, options)
        name = asyncio.run(
            submit_and_leave(
                choose_hosts(hosts), task, connect_timeout=connect_timeout, submit_timeout=connect_timeout + _SLACK
            )
        )
        if name != task.name:
            click.echo(f"nothing was submitted: {name} holds the key", err=True)
        click.echo(name)


def choose_options(call: str, given: Mapping[str, Any], *, may_import: bool) -> tuple[str, TaskOptions]:
    """The name under which the function is registered, and the options that hold, where it can be found here. Raises
    what `Task.options` raises."""
    from herdmaster.api.options import TaskOptions

    options: Any = {name: value for name, value in given.items() if value is not None}
    if may_import:
        from herdmaster.cli.registered import find_registered

        task = find_registered(call)
        if task is not None:
            return task.call, task.options(**options).checked
    return call, TaskOptions().changed(options)


def _print_result(future: Future[object]) -> None:
    from herdmaster.core.values import to_json

    with _naming_what_goes_on([future]):
        error = _wait_ended([future])
    if error is not None:
        raise Failed(f"{future.name} failed: {_explain(error)}", "herd submit")
    click.echo(to_json(future.result(), "the result"))


def check_call(call: str) -> None:
    """Raises a usage error for what no function could be called."""
    module, colon, name = call.partition(":")
    parts = [*module.split("."), *(part for part in name.split(".") if part != "<locals>")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise click.BadParameter(
            f"{call!r} is not MODULE:FUNCTION, such as shop.tasks:resize", param_hint="MODULE:FUNCTION"
        )


def read_arguments(texts: Sequence[str]) -> tuple[list[object], dict[str, object]]:
    """Positional and keyword arguments. Raises a usage error for a keyword that is given twice."""
    args: list[object] = []
    kwargs: dict[str, object] = {}
    for text in texts:
        keyword = _keyword(text)
        if keyword is None:
            args.append(_read_value(text))
        elif keyword[1] in kwargs:
            raise click.BadParameter(f"{keyword[1]}= is given twice", param_hint="ARG")
        else:
            kwargs[keyword[1]] = _read_value(keyword[2])
    return args, kwargs


def _read_value(text: str) -> object:
    from herdmaster.core.values import UNREADABLE, from_json

    try:
        return from_json(text.encode())
    except UNREADABLE:
        return text


def _open(hosts: str, connect_timeout: float) -> Herd:
    from herdmaster.api import Herd

    return Herd(hosts, connect_timeout=connect_timeout, submit_timeout=connect_timeout + _SLACK)


def _wait_ended(futures: Sequence[Future[None] | Future[object]]) -> BaseException | None:
    """Waits for the first; what it failed with, or None."""
    try:
        return futures[0].failure(_PATIENCE)
    except concurrent.futures.TimeoutError:
        waiting = "1 task" if len(futures) == 1 else f"{len(futures)} tasks"
        click.echo(f"still waiting for {waiting}; `herd tasks show {futures[0].name}` tells what keeps it", err=True)
    return futures[0].failure()


@contextlib.contextmanager
def _naming_what_goes_on(futures: Sequence[Future[None] | Future[object]]) -> Iterator[None]:
    """An interrupted wait reports which tasks have been accepted: they run all the same."""
    try:
        yield
    except BaseException:
        for future in futures:
            click.echo(f"{future.name} goes on without being waited for", err=True)
        raise


def _outcome(error: BaseException) -> str:
    """As it stands in the status of a raw task."""
    from herdmaster.errors import HerdError, TaskFailed

    cause = error if isinstance(error, TaskFailed) else error.__cause__
    if isinstance(cause, TaskFailed):
        return f"failed: {cause.type}"
    return str(error) if isinstance(error, HerdError) else f"failed: {type(error).__name__}"


def _explain(error: BaseException) -> str:
    """The traceback of the task's code, which is where the mistake is, or what else is known."""
    from herdmaster.errors import TaskFailed

    cause = error if isinstance(error, TaskFailed) else error.__cause__
    if isinstance(cause, TaskFailed):
        return f"{cause}\n\n{cause.traceback.rstrip()}" if cause.traceback else str(cause)
    return str(error)
