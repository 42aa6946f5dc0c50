"""The group of all verbs, each imported when it is asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import click

from herdmaster import __version__
from herdmaster.cli.failures import errors_in_one_line

VERBS: Final[Mapping[str, str]] = MappingProxyType({
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
    "history": "herdmaster.cli.history",
    "stats": "herdmaster.cli.history",
    "zookeeper": "herdmaster.cli.development",
    "dev": "herdmaster.cli.development",
    "demo": "herdmaster.cli.demo.command",
    "simulate": "herdmaster.cli.simulation",
})  # fmt: skip
"""A verb and the module that has a command of that name, in the order of the help."""


class LazyGroup(click.Group):
    """Imports a verb's module when the verb is used or its help is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with errors_in_one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        if os.environ.get("NO_COLOR"):
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

    HOSTS is host:port[,host:port...][/namespace]. Where it is not given it is $HERD_ZOOKEEPER, else 127.0.0.1:2181;
    `herd worker` takes that of its app first.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)
