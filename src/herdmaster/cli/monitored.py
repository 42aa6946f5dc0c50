"""A role that is monitored: over HTTP if `--listen` is given, and by systemd if that has started it."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final

from herdmaster.cli.systemd import Notifier
from herdmaster.errors import ConfigurationError
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.role import Role, run_until_first
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper.client import PLAIN, Security

if TYPE_CHECKING:
    from herdmaster.monitoring.metrics import Metrics
    from herdmaster.monitoring.processes import RoleProcess

_NOT_INSTALLED: Final = "--listen needs packages that are not installed: pip install 'herdmaster[monitoring]'"

_log = logging.getLogger("herdmaster")


class Monitoring:
    """The monitoring of a process that is about to run a role. Make the role with `system`, then run it with `run`."""

    def __init__(self, listen: str | None, security: Security = PLAIN) -> None:
        """Raises ConfigurationError, if the packages for it are not installed or the address cannot be used."""
        self._notifier = Notifier()
        self._metrics: Metrics | None = None
        if listen is not None:
            try:
                from herdmaster.monitoring.metrics import Metrics
                from herdmaster.monitoring.server import bind
            except ImportError:
                raise ConfigurationError(_NOT_INSTALLED) from None
            self._metrics = Metrics()
            self._socket = bind(listen)
            host, port = self._socket.getsockname()[:2]
            _log.info("monitoring: listening on %s:%d", host, port)
        self.system = System(security=security, instruments=self._metrics or Instruments())

    def watch(self, role: Role, *beside: Coroutine[object, object, None]) -> MonitoredRole:
        """Return what runs the role, its monitoring, and what is to run beside it, which never ends by itself."""
        watching = [*self._watch_over_http(role), *self._watch_by_systemd(role), *beside]
        return MonitoredRole(role, watching, self._notifier)

    def _watch_over_http(self, role: Role) -> list[Coroutine[object, object, None]]:
        if self._metrics is None:
            return []
        from herdmaster.monitoring.server import serve
        from herdmaster.monitoring.web import make_app

        process = _process_of(role)
        self._metrics.add_source(process.read_gauges)
        return [serve(make_app(process, self._metrics), self._socket), process.measure_lag()]

    def _watch_by_systemd(self, role: Role) -> list[Coroutine[object, object, None]]:
        return [self._notifier.run(role)] if self._notifier.is_used else []


def _process_of(role: Role) -> RoleProcess:
    from herdmaster.monitoring.processes import MasterProcess, RoleProcess, WorkerProcess
    from herdmaster.roles.primary.master import Master
    from herdmaster.roles.worker.worker import Worker

    if isinstance(role, Master):
        return MasterProcess(role)
    return WorkerProcess(role) if isinstance(role, Worker) else RoleProcess(role)


class MonitoredRole:
    """A role together with what watches it; for `cli.running`."""

    def __init__(self, role: Role, watching: list[Coroutine[object, object, None]], notifier: Notifier) -> None:
        self.kind = role.kind
        self._role = role
        self._watching = watching
        self._notifier = notifier

    @property
    def hosts(self) -> object:
        return self._role.hosts

    @property
    def is_stopping(self) -> bool:
        return self._role.is_stopping

    def stop(self) -> None:
        self._notifier.send("STOPPING=1")
        self._role.stop()

    async def run(self) -> None:
        """Run until the role has ended. Raises what it raises."""
        await run_until_first(self._role.run(), *self._watching)
