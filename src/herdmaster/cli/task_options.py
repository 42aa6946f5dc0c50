"""The options that choose tasks, of all commands that act on many."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.options import C, Choosing, Decorator, Duration
from herdmaster.cli.printing import say_left_out

if TYPE_CHECKING:
    from collections.abc import Iterable

    from herdmaster.cli.session import Session
    from herdmaster.inspection.task_seen import TaskFilter
    from herdmaster.zookeeper.client import Client

STATES: Final = (
    "delayed", "pending", "assigned", "running", "recovering", "done", "failed", "cancelled", "expired", "dead",
)  # fmt: skip
UNENDED: Final = STATES[:5]


class Choice(NamedTuple):
    """What the options say. Ages are in seconds; `states` is empty for all."""

    states: tuple[str, ...] = ()
    queue: str | None = None
    call: str | None = None
    error: str | None = None
    worker: str | None = None
    older_than: float | None = None
    newer_than: float | None = None
    flow: str | None = None

    def filter_of(self, states: Iterable[str] = ()) -> TaskFilter:
        """Return the filter. `states` stands for all if no option names a state."""
        from herdmaster.inspection.task_seen import TaskFilter, TaskState

        now = time.time_ns() // 1_000_000
        wanted = frozenset(map(TaskState, self.states or states)) or frozenset(TaskState)
        before = None if self.older_than is None else now - int(self.older_than * 1000)
        after = None if self.newer_than is None else now - int(self.newer_than * 1000)
        return TaskFilter(wanted, self.queue, self.call, self.error, self.worker, before, after, self.flow)


def filter_options(*states: str) -> Decorator:
    """Pass `choice` to a command, made of the options that choose tasks; --state only where there are `states`."""

    def decorate(command: C) -> C:
        @functools.wraps(command)
        def run(**rest: Any) -> object:  # the options of any command
            fields = {name: rest.pop(name) for name in Choice._fields if name in rest}
            return command(choice=Choice(**fields), **rest)

        decorated: Any = run  # what click decorates may return anything
        for option in reversed(_options(states)):
            decorated = option(decorated)
        return cast("C", decorated)

    return decorate


_TIMES: Final[tuple[Decorator, ...]] = (
    click.option(
        "--older-than",
        type=Duration(),
        metavar="TIME",
        help="Only tasks submitted before this time, such as 5m ago.",
    ),
    click.option(
        "--newer-than",
        type=Duration(),
        metavar="TIME",
        help="Only tasks submitted since this time, such as 2h ago.",
    ),
)


def _options(states: tuple[str, ...]) -> list[Decorator]:
    options = [
        click.option("--queue", type=Choosing(), metavar="NAME", help="Only tasks of this queue."),
        click.option("--call", metavar="NAME", help="Only calls of this function: `module:name`, or its last part."),
        click.option(
            "--error",
            type=Choosing(),
            metavar="TYPE",
            help="Only tasks whose (last) error is of this type, such as ConnectionError.",
        ),
        click.option(
            "--worker", type=Choosing(), metavar="NAME", help="Only tasks that are with this worker, or ended there."
        ),
        *_TIMES,
    ]
    if states:
        options.append(
            click.option(
                "--flow",
                type=Choosing(),
                metavar="FLOW",
                help="Only steps of this flow (its whole name) that have not ended.",
            )
        )
        options.insert(
            0,
            click.option(
                "--state", "states", type=click.Choice(states), multiple=True, help="Only this state; may be repeated."
            ),
        )
    return options


class Selection(NamedTuple):
    """The tasks that a command acts on: those that are named, or those that the options choose."""

    tasks: tuple[str, ...]
    choice: Choice
    states: tuple[str, ...]

    def names(self, session: Session) -> list[str]:
        """Return their names, oldest first. Raises what `Session.run` raises, and Failed if it cannot be known whether
        there are any."""
        from herdmaster.inspection.reading import Unreadable
        from herdmaster.inspection.tasks import Inspector

        if self.tasks:
            return list(dict.fromkeys(self.tasks))
        unreadable = Unreadable()

        async def work(client: Client) -> list[str]:
            found = Inspector(client, unreadable).list_tasks(self.choice.filter_of(self.states))
            return [seen.name async for seen in found]

        names = session.run(work)
        if unreadable and not names:
            raise Failed(f"there may be such tasks: {unreadable}")
        say_left_out(unreadable)
        return names


def select(tasks: tuple[str, ...], choice: Choice, states: tuple[str, ...], *, everything: bool) -> Selection:
    """Raises a usage error if tasks are both named and chosen, or neither, or one of the names is not a task's."""
    is_chosen = everything or choice != Choice()
    if bool(tasks) is is_chosen:
        raise click.UsageError("name the tasks, or choose them with --all or a filter such as --queue")
    for name in tasks:
        check_task(name)
    return Selection(tasks, choice, states)


def check_task(task: str) -> None:
    """Raise a usage error if this is not the name of a task."""
    from herdmaster.core.names import parse_flow_name, parse_task_name

    if parse_flow_name(task) is not None:
        raise click.BadParameter(f"{task!r} is a flow: `herd flows` has commands of its kind", param_hint="TASK")
    if parse_task_name(task) is None:
        raise click.BadParameter(f"{task!r} is not the name of a task, such as task-01h...default", param_hint="TASK")


def confirm(question: str, *, is_confirmed: bool, otherwise: str) -> None:
    """Ask on a terminal. Raises Failed with `otherwise` without a terminal, Abort if the answer is no."""
    if is_confirmed:
        return
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort as error:
        if isinstance(error.__context__, EOFError):
            raise Failed(f"{otherwise}: confirm with --yes") from None
        raise
