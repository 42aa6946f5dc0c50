"""Groups of commands that list where no command is given."""

from __future__ import annotations

import re

import click

_looks_like_hosts = re.compile(r".*[:,/].*").fullmatch


class ListingGroup(click.Group):
    """Without a command it lists, with the arguments and options of `list`. What has a colon, a comma or a slash in it
    is taken for HOSTS: a name of a host alone could be a command that is misspelt."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or self._is_for_list(ctx, args[0]):
            args = ["list", *args]
        return super().parse_args(ctx, args)

    def _is_for_list(self, ctx: click.Context, first: str) -> bool:
        if first.startswith("-"):
            return first not in self.get_help_option_names(ctx)
        return first not in self.commands and _looks_like_hosts(first) is not None
