"""`herd health`: asks a master or a worker that listens how it is."""

from __future__ import annotations

import click

from herdmaster.cli.options import check_seconds
from herdmaster.cli.printing import say

_BAD = 1


@click.command
@click.argument("address", metavar="[HOST:PORT]", default="127.0.0.1:9100")
@click.option("--live", is_flag=True, help="Ask only whether its event loop turns (/livez).")
@click.option(
    "--timeout", type=float, callback=check_seconds, metavar="SECONDS", default=5, show_default=True,
    help="How long to wait for the answer.",
)  # fmt: skip
@click.pass_context
def health(ctx: click.Context, *, address: str, live: bool, timeout: float) -> None:
    """Ask a master or worker whether it is ready.

    It has to run with --listen. The exit status is 0 if it is ready, that is: has a session with ZooKeeper and is
    registered; else 1, with the reason. This imports no app, so it is cheap enough for a probe.
    """
    import http.client

    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if not port.isdecimal():
        raise click.UsageError(f"{address!r} is not HOST:PORT", ctx)
    connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), timeout=timeout)
    try:
        connection.request("GET", "/livez" if live else "/readyz")
        response = connection.getresponse()
        text = response.read(10_000).decode("utf-8", "replace").strip()
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        say(f"{address} does not answer: {str(error) or type(error).__name__}", err=True)
        ctx.exit(_BAD)
    finally:
        connection.close()
    say(text, err=response.status != http.client.OK)
    ctx.exit(0 if response.status == http.client.OK else _BAD)
