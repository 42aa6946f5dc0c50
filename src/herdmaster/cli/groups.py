"""Groups of commands that have a default command."""

from __future__ import annotations

import re

import click

from herdmaster.cli.help import Command

_looks_like_hosts = re.compile(r".*[:,/].*").fullmatch


class DefaultGroup(click.Group):
    """A group that runs its command `default` if none is given, with the options of that command."""

    command_class = Command
    default: str

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or self._is_for_default(ctx, args[0]):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def _is_for_default(self, ctx: click.Context, first: str) -> bool:
        return first.startswith("-") and first not in self.get_help_option_names(ctx)


class ListingGroup(DefaultGroup):
    """A group that lists by default, with the arguments and options of `list`.

    An argument with a colon, a comma or a slash is HOSTS. The name of a host alone is not: it could be a misspelt
    command.
    """

    default = "list"

    def _is_for_default(self, ctx: click.Context, first: str) -> bool:
        is_for_default = super()._is_for_default(ctx, first)
        return is_for_default or (
            not first.startswith("-") and first not in self.commands and _looks_like_hosts(first) is not None
        )


class ShowingGroup(DefaultGroup):
    """A group that shows by default, with the options of `show`."""

    default = "show"
