"""The call that a command names: its function, its arguments, and the options of its task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from herdmaster.cli.help import Command
from herdmaster.cli.options import C, Decorator, Duration

if TYPE_CHECKING:
    from herdmaster.api.callee import Callee
    from herdmaster.api.herd_core import HerdCore
    from herdmaster.api.options import TaskOptions
    from herdmaster.core.signing import Keyring

_keyword = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL).fullmatch
_negative_number = re.compile(r"-\.?\d").match


class CallCommand(Command):
    """A command that takes `-5` for an argument, and still refuses a mistyped option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        for arg in args[: args.index("--")] if "--" in args else args:
            name = arg.partition("=")[0]
            if name.startswith("-") and name not in known and not _negative_number(name):
                raise click.NoSuchOption(
                    name, f"No such option: {name}; put arguments that start with a hyphen after `--`", ctx=ctx
                )
        return super().parse_args(ctx, args)


_OPTIONS: Final[tuple[Decorator, ...]] = (
    click.option("--queue", metavar="NAME", help="The queue of the task.  [default: the registered one, or `default`]"),
    click.option(
        "--priority",
        type=click.IntRange(0, 9),
        metavar="N",
        help="The priority within the queue, 9 runs first.  [default: the registered one, or 5]",
    ),
    click.option(
        "--expires", type=Duration(), metavar="TIME", help="End the task as expired if it has not started by then."
    ),
    click.option("--timeout", type=Duration(), metavar="TIME", help="Stop the task after it has run for this time."),
    click.option("--max-attempts", type=click.IntRange(1), metavar="N", help="Try the task at most N times."),
    click.option("--key", metavar="TEXT", help="Submit nothing while another task or its outcome holds this key."),
    click.option(
        "--key-scope",
        type=click.Choice(("call", "global")),
        help="Make the key unique among the tasks of this function (call, the default) or among all tasks (global).",
    ),
    click.option(
        "--key-holds",
        type=click.Choice(("done", "always")),
        help="Free the key of a task that fails, expires or is cancelled (done, the default), or keep it (always).",
    ),
    click.option(
        "--keep-outcome",
        type=Duration(),
        metavar="TIME",
        help="Keep the outcome for this time, however many programs read it.",
    ),
    click.option(
        "--unchecked", is_flag=True, help="Import nothing: submit the name and the options as they are given."
    ),
)


def call_options(command: C) -> C:
    """Add the options of a task, and `--unchecked`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Request(NamedTuple):
    """What is to be submitted: the function, its options, the Herd that registers it, if that is known, and the keys
    that sign it. `registered` are the options of the function without those that are given."""

    callee: Callee
    options: TaskOptions
    herd: HerdCore | None
    keyring: Keyring | None
    registered: TaskOptions


def make_request(call: str, given: Mapping[str, Any], app: str | None, *, unchecked: bool) -> Request:
    """Find the function, and apply the options that are given. Raises what `find_task` and `Task.options` raise."""
    options: Any = {name: value for name, value in given.items() if value is not None}
    if not unchecked:
        from herdmaster.api.internals import core_of
        from herdmaster.cli.registered import find_task

        task = core_of(find_task(call, app))
        return Request(task.callee(), task.changed(options).options, task.herd, task.herd.keyring, task.options)
    from herdmaster.api.callee import Callee
    from herdmaster.api.options import TaskOptions
    from herdmaster.api.signing_keys import Signing

    changed = TaskOptions().changed(options)
    return Request(Callee(call), changed, None, Signing().find_keyring(), TaskOptions())


def check_call(call: str) -> None:
    """Raise a usage error if `call` cannot be the name of a function."""
    module, colon, name = call.partition(":")
    parts = [*module.split("."), *(part for part in name.split(".") if part != "<locals>")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise click.BadParameter(
            f"{call!r} is not MODULE:FUNCTION, such as shop.tasks:resize", param_hint="MODULE:FUNCTION"
        )


def read_arguments(texts: Sequence[str]) -> tuple[list[object], dict[str, object]]:
    """Return positional and keyword arguments. Raises a usage error for a keyword that is given twice."""
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
