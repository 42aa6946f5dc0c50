"""The help of commands: their own options first, then those of security, which most commands have."""

from __future__ import annotations

import click

_SECURITY = ("--tls", "--auth")


class Command(click.Command):
    """A command whose help lists the options of TLS and of authentication in a section of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        security: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (security if record[0].startswith(_SECURITY) else own).append(record)
        for title, records in (("Options", own), ("Security options", security)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
