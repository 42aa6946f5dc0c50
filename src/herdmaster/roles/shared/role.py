"""The base of masters, workers and clients: one session after the other, until it is told to stop."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Final, TypeVar

from herdmaster.errors import BadPolicy, HerdError
from herdmaster.roles.shared.access import Access
from herdmaster.roles.shared.bootstrap import open_client
from herdmaster.roles.shared.callbacks import callbacks_of_role, stray, watch_callbacks
from herdmaster.roles.shared.connection_log import ConnectionLog
from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Predecessors, parse_connect_string
from herdmaster.zookeeper.model import SessionState

_SHORT_SESSION_SECONDS: Final = 1.0
_MAX_DOUBLINGS: Final = 3
_REFUSED_SECONDS: Final = 30.0
"""Between two sessions of a role that lacks a right."""

T = TypeVar("T")

_log = logging.getLogger("herdmaster")


async def run_until_first(*coroutines: Coroutine[object, object, None]) -> None:
    """Run all until one returns or raises, and cancel the others. Raises what that one raised, and StrayCancellation if
    that one ended as if it had been cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:  # in their order: of two that ended in one turn the first decides
        if task in done:
            _result_of(task)


def _result_of(task: asyncio.Future[T]) -> T:
    """Return the result of a task that is done and was not cancelled from here."""
    try:
        return task.result()
    except asyncio.CancelledError as error:
        raise stray(error) from error


async def _abandon(opening: asyncio.Future[Client]) -> None:
    opening.cancel()
    (result,) = await asyncio.gather(opening, return_exceptions=True)
    if isinstance(result, Client):  # it was open already
        await result.close()


class Role(abc.ABC):
    """A role of a process. `run` returns after `stop`; it raises only what trying again would not mend."""

    loss_level: int = logging.WARNING
    """The level of the log line about a lost connection."""

    def __init__(self, kind: str, hosts: str, system: System | None = None) -> None:
        """Raises InvalidConnectString."""
        self.kind = kind
        self.system = system or System()
        self.hosts = parse_connect_string(hosts)
        self.predecessors = Predecessors()
        """The sessions that the next one closes, so that none of their ephemerals is in its way."""
        self._stopping = asyncio.Event()
        self._short_sessions = 0  # in a row
        self._unopened = ""  # why there is no session, as it was logged
        self._access = Access()
        self._lacked = LackedRights()
        self._is_refused = False  # the last session lacked a right, or could not begin for that
        self.connection_log = ConnectionLog(
            kind, self.system.clock, self.loss_level, meanwhile=self.meanwhile, found=self.found
        )
        self._callback_fault: asyncio.Future[None] | None = None  # of the present session
        self.client: Client | None = None
        """The present session."""

    @abc.abstractmethod
    async def open(self) -> Client:
        """Open a new session. Raises NoServerReachable."""

    async def open_session(
        self,
        session_timeout: float,
        connect_timeout: float | None,
        *,
        says_late: bool = True,
        is_founder: bool = False,
    ) -> Client:
        """Open a session as `open_client`, with what the role knows of its earlier sessions. For `open`."""
        return await open_client(
            self.hosts,
            self.system,
            session_timeout=session_timeout,
            connect_timeout=connect_timeout,
            predecessors=self.predecessors,
            says_late=says_late,
            is_founder=is_founder,
            access=self._access,
        )

    @abc.abstractmethod
    async def serve(self, client: Client) -> None:
        """Do the work of one session. Raises SessionExpired when it is over; returns when the role has to start
        again."""

    def not_ready(self) -> str | None:
        """Return what keeps the role from its work, as a sentence; None if nothing does."""
        if self.is_stopping:
            return f"the {self.kind} is stopping"
        if self.client is None:
            return f"the {self.kind} has no session with ZooKeeper"
        if self.client.state is not SessionState.CONNECTED:
            return f"the {self.kind} has lost its connection to ZooKeeper"
        return None

    def meanwhile(self) -> str:
        """Return what the role does not do until a lost connection is back, for the log."""
        return "waiting for it"

    def found(self) -> str:
        """Return what waits for the role when the connection is back, for the log; empty if there is nothing to say
        yet."""
        return ""

    def stop(self) -> None:
        """Ask `run` to end. Idempotent."""
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(self) -> None:
        """Run until `stop`. Before the first session this raises what `open` raises; later only AuthenticationFailed.
        After a lost session, and after any fault, the role starts again with a new session."""
        with callbacks_of_role(self._callback_failed):
            await self._run_sessions()

    async def _run_sessions(self) -> None:
        has_served = False
        while not self.is_stopping:
            try:
                client = await self._open_unless_stopped()
            except (errors.SessionExpired, errors.ConnectionLoss) as error:
                self.connection_log.note_loss(logging.WARNING)
                _log.warning("%s: no session yet: %s; trying again", self.kind, error)
            except (errors.ZooKeeperError, BadPolicy) as error:
                if not has_served or isinstance(error, errors.AuthenticationFailed):
                    raise
                self._is_refused = isinstance(error, BadPolicy)
                self.connection_log.note_loss(logging.WARNING)
                if isinstance(error, errors.ServerError):
                    self._tell_refused(error)
                else:
                    self._tell_unopened(error)
            except Exception:
                if not has_served:
                    raise
                self._short_sessions += 1
                self._log_fault()
            else:
                has_served, self._unopened = True, ""
                if client is not None:
                    self.connection_log.log_opened()
                    await self._serve_session(client)
            if not self.is_stopping:
                await self._pause()

    async def _serve_session(self, client: Client) -> None:
        began = self.system.clock()
        watch_callbacks()
        client.add_listener(self.connection_log.listen)
        self._callback_fault = asyncio.get_running_loop().create_future()
        self.client = client
        try:
            await run_until_first(
                self.serve(client),
                self._wait_stopped(client),
                self._wait_fault(self._callback_fault),
                self._access.follow(client),
            )
        except errors.AuthenticationFailed:
            raise
        except errors.ServerError as error:
            # A folder, or the permission to use it, was taken away. The next start makes the folders again.
            self._tell_refused(error)
        except errors.ZooKeeperError as error:
            if client.state is SessionState.EXPIRED:
                self.system.instruments.session_expired()
            if not self.is_stopping:
                self.connection_log.note_loss(logging.WARNING)
                _log.warning("%s: %s; starting again with a new session", self.kind, error)
        except Exception:  # noqa: BLE001 - it is logged with its traceback
            self._log_fault()
        finally:
            is_short = self.system.clock() - began < _SHORT_SESSION_SECONDS
            self._short_sessions = self._short_sessions + 1 if is_short else 0
            self.client = None
            await client.close()
            self._callback_fault = None

    def _log_fault(self) -> None:
        """Log any fault: with a new session everything is read anew, and the tasks of others must not wait for it."""
        _log.exception("%s: a fault of Herdmaster's own; starting again with a new session", self.kind)

    def _tell_refused(self, error: errors.ServerError) -> None:
        """Log what ended a session, or kept it from beginning. The lack of a right is logged once: an operator has to
        grant it, and until then the role tries seldom."""
        cause = error.error if isinstance(error, errors.TransactionFailed) else error
        if not isinstance(cause, errors.NoAuth):
            _log.error("%s: ZooKeeper refused: %s; starting again", self.kind, error)
            return
        self._is_refused = True
        if self._lacked.is_news(cause):
            _log.error("%s: ZooKeeper refused: %s; trying again every %g s", self.kind, cause, _REFUSED_SECONDS)

    def _tell_unopened(self, error: HerdError) -> None:
        """Log why no session was opened. A fault of this machine, such as a file of TLS that is missing, lasts until
        an operator acts: it is logged once, and tried at longer intervals."""
        if not isinstance(error, errors.NoServerReachable):
            self._short_sessions += 1
            if str(error) == self._unopened:
                return
        self._unopened = str(error)
        _log.warning("%s: %s; trying again", self.kind, error)

    async def _pause(self) -> None:
        if self._is_refused:
            self._is_refused = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REFUSED_SECONDS * self.system.rng.uniform(0.8, 1.2)):
                    await self._stopping.wait()
            return
        # Jittered, so that many roles that lost their sessions together do not come back in one instant. Longer after
        # each short session, so that what fails each time fails seldom.
        await asyncio.sleep(self.system.rng.uniform(0.05, 0.2) * 2.0 ** min(self._short_sessions, _MAX_DOUBLINGS))

    async def _open_unless_stopped(self) -> Client | None:
        opening = asyncio.ensure_future(self.open())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((opening, stopping), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await _abandon(opening)
            raise
        finally:
            stopping.cancel()
        if opening.done():
            return _result_of(opening)
        await _abandon(opening)
        return None

    async def _wait_fault(self, fault: asyncio.Future[None]) -> None:
        """Wait for a failed callback, and raise its error."""
        await fault

    def _callback_failed(self, error: Exception) -> bool:
        """Return whether the error ends a session. Errors of callbacks before the session has ended follow from the
        first."""
        fault = self._callback_fault
        if fault is None or fault.cancelled():
            return False
        if fault.done():
            return True
        fault.set_exception(error)
        fault.exception()  # mark it as retrieved, also if the session ends for another reason at the same moment
        return True

    async def _wait_stopped(self, client: Client) -> None:
        await self._stopping.wait()
        await self.drain(client)

    async def drain(self, client: Client) -> None:  # noqa: B027 - most roles have nothing to do
        """Do what the role still has to do in a session before it ends it."""
