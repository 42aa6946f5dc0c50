"""`herd`: the group of all commands, each imported when it is used."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from herdmaster import __version__
from herdmaster.cli.failures import errors_in_one_line

COMMANDS: Final[Mapping[str, str]] = MappingProxyType({
    "master": "herdmaster.cli.roles",
    "worker": "herdmaster.cli.roles",
    "client": "herdmaster.cli.submit",
    "submit": "herdmaster.cli.submit",
    "status": "herdmaster.cli.status",
    "tasks": "herdmaster.cli.tasks",
    "dead": "herdmaster.cli.dead",
    "workers": "herdmaster.cli.workers",
    "queues": "herdmaster.cli.queues",
    "keys": "herdmaster.cli.keys",
    "access": "herdmaster.cli.access",
    "schedules": "herdmaster.cli.schedules",
    "flows": "herdmaster.cli.flows",
    "health": "herdmaster.cli.health",
    "doctor": "herdmaster.cli.doctor",
    "history": "herdmaster.cli.history",
    "stats": "herdmaster.cli.history",
    "zookeeper": "herdmaster.cli.development",
    "dev": "herdmaster.cli.development",
    "demo": "herdmaster.cli.demo.command",
    "simulate": "herdmaster.cli.simulation",
})  # fmt: skip
"""The name of each command and the module that holds it, in the order of the help."""


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with errors_in_one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        with errors_in_one_line(ctx):
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="herd %(version)s")
@click.pass_context
def herd(ctx: click.Context) -> None:
    """Run tasks on many machines, with Apache ZooKeeper as the only infrastructure.

    HOSTS is host:port[,host:port...][/namespace]. Without HOSTS, a command connects to $HERD_ZOOKEEPER, else where the
    Herd of its app goes, else to 127.0.0.1:2181; `herd worker` prefers its app to $HERD_ZOOKEEPER.

    Exit codes: 0 done, 1 failed, 2 used incorrectly, 130 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
