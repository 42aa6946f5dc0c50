"""The session of a command: the options that choose its servers, and the session itself."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import click

from herdmaster.cli.options import (
    C,
    Decorator,
    app_option,
    connect_timeout_option,
    hosts_argument,
    log_options,
    zookeeper_option,
)
from herdmaster.cli.security import security_options

if TYPE_CHECKING:
    from herdmaster.api import Herd
    from herdmaster.api.direction import Target
    from herdmaster.api.herd_core import HerdCore
    from herdmaster.api.security import GivenSecurity
    from herdmaster.zookeeper.client import Client

T = TypeVar("T")

_PATIENCE: Final = 3.0
"""Seconds until a command that waits for a master says so."""

_POLL_SECONDS: Final = 0.1

_APP_HELP: Final = "The app. Its Herd names the servers if neither --zookeeper nor $HERD_ZOOKEEPER does."


class Session(NamedTuple):
    """The servers that a command is given, how many seconds it tries to reach them, and what its options say of
    security."""

    given_hosts: str | None
    app: str | None
    connect_timeout: float
    security: GivenSecurity | None = None

    def find_hosts(self, core: HerdCore | None = None) -> str:
        """Return --zookeeper, else $HERD_ZOOKEEPER, else the hosts of the app's Herd, else the default.

        `core` is that of the app's Herd, if the command has loaded it already. Raises what `load_named_app` raises.
        """
        from herdmaster.api import Herd
        from herdmaster.api.herd_core import HOSTS_VARIABLE
        from herdmaster.api.internals import core_of

        if self.given_hosts is not None:
            return self.given_hosts
        if os.environ.get(HOSTS_VARIABLE) or (core is None and self.app is None):
            return Herd().hosts
        return (core or core_of(_load(cast("str", self.app)))).hosts

    def find_target(self, core: HerdCore | None = None) -> Target:
        """Return the servers as `find_hosts`, with the security of the options, else that of the app's Herd, else that
        of the environment. `core` and the errors are those of `find_hosts`."""
        from herdmaster.api import Herd
        from herdmaster.api.direction import Target
        from herdmaster.api.internals import core_of

        core = core or core_of(Herd() if self.app is None else _load(self.app))
        security = core.target.security
        return Target(self.find_hosts(core), security if self.security is None else self.security.over(security))

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Return what `work` returns. Raises InvalidConnectString, NoServerReachable, ConfigurationError if the
        namespace does not exist, what `use_policy` raises, and what `work` raises."""
        import asyncio

        target = self.find_target()

        async def run() -> T:
            from herdmaster.errors import ConfigurationError
            from herdmaster.roles.shared.access import use_policy
            from herdmaster.zookeeper.client import Client

            async with Client(target.hosts, connect_timeout=self.connect_timeout, security=target.security) as client:
                await use_policy(client)
                if await client.exists("/") is None:
                    raise ConfigurationError(
                        f"the namespace in {target.hosts} does not exist: check the connect string, or start a master "
                        "there, which creates it"
                    )
                return await work(client)

        return asyncio.run(run())

    def refuse_unused(self, target: Target) -> None:
        """Raise ConfigurationError if no program of Herdmaster has used the namespace. Raises also as `run`.

        A master that starts at the same time has `connect_timeout` seconds to create its folders.
        """
        import asyncio

        if not asyncio.run(_wait_until_used(target, self.connect_timeout)):
            from herdmaster.errors import ConfigurationError

            raise ConfigurationError(
                f"the namespace in {target.hosts} has never been used: check the connect string, start a master there, "
                "or submit with --create"
            )


async def _wait_until_used(target: Target, seconds: float) -> bool:
    """Return whether the namespace has the folder of tasks, at the latest after this time."""
    import asyncio

    from herdmaster.core import layout
    from herdmaster.zookeeper.client import Client

    async with Client(target.hosts, connect_timeout=seconds, security=target.security) as client:
        started = asyncio.get_running_loop().time()
        is_told = False
        while await client.exists(layout.TASKS) is None:
            waited = asyncio.get_running_loop().time() - started
            if waited > seconds:
                return False
            if waited > _PATIENCE and not is_told:
                click.echo(f"waiting for a master to create the folders in {target.hosts}", err=True)
                is_told = True
            await asyncio.sleep(_POLL_SECONDS)
    return True


def _load(app: str) -> Herd:
    import contextlib
    import sys

    from herdmaster.cli.named_app import load_named_app

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for what the command prints
        return load_named_app(app)


def session_options(*, positional: bool = False, log_level: str = "warning") -> Decorator:
    """Pass `session` to a command, made of --zookeeper (or HOSTS, if `positional`), --app, --connect-timeout and
    the options for TLS.

    Add the options for logs as well, and configure logs.
    """

    def decorate(command: C) -> C:
        @functools.wraps(command)
        def run_with_session(
            *,
            hosts: str | None,
            app: str | None,
            connect_timeout: float,
            security: GivenSecurity,
            log_level: str,
            log_format: str,
            **rest: Any,  # the options of any command
        ) -> object:
            from herdmaster.cli.logs import configure_logs

            configure_logs(log_level, log_format)
            return command(session=Session(hosts, app, connect_timeout, security), **rest)

        decorated = connect_timeout_option(10)(security_options(log_options(log_level)(run_with_session)))
        with_app = app_option(_APP_HELP)(decorated)
        return cast("C", (hosts_argument if positional else zookeeper_option)(with_app))

    return decorate
