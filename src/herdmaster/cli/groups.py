"""Groups of commands that run one of them where no command is given."""

from __future__ import annotations

import re

import click

_looks_like_hosts = re.compile(r".*[:,/].*").fullmatch


class DefaultGroup(click.Group):
    """Without a command it runs the one called `default`, with the options of that."""

    default: str

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or self._is_for_default(ctx, args[0]):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def _is_for_default(self, ctx: click.Context, first: str) -> bool:
        return first.startswith("-") and first not in self.get_help_option_names(ctx)


class ListingGroup(DefaultGroup):
    """Without a command it lists, with the arguments and options of `list`. What has a colon, a comma or a slash in it
    is taken for HOSTS: a name of a host alone could be a command that is misspelt."""

    default = "list"

    def _is_for_default(self, ctx: click.Context, first: str) -> bool:
        is_for_default = super()._is_for_default(ctx, first)
        return is_for_default or (
            not first.startswith("-") and first not in self.commands and _looks_like_hosts(first) is not None
        )


class ShowingGroup(DefaultGroup):
    """Without a command it shows, with the options of `show`."""

    default = "show"
