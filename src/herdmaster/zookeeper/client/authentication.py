"""Authenticates each connection of a session: fetches the credentials before it, and speaks SASL after its handshake.

Passwords of files and functions are fetched, and Kerberos called, in a thread: neither may block the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.connect_string import Address
from herdmaster.zookeeper.client.credentials import Conversation, Digest
from herdmaster.zookeeper.client.presented import NOTHING, Presented
from herdmaster.zookeeper.client.requests import DropConnection, Event, Pending
from herdmaster.zookeeper.client.security import Security
from herdmaster.zookeeper.client.session import Session
from herdmaster.zookeeper.wire.opcodes import XID_AUTH
from herdmaster.zookeeper.wire.records import Auth, Record, Request, Sasl, SaslReply

T = TypeVar("T")


class Authentication:
    """Authenticates the connections of a session one after the other. `handle` takes the session's events, and sends
    what it has to send."""

    def __init__(self, security: Security, session: Session, handle: Callable[[list[Event]], None]) -> None:
        self._digests = [each for each in security.auth if isinstance(each, Digest)]
        self._sasl = next((each for each in security.auth if not isinstance(each, Digest)), None)
        self._has_certificate = security.tls is not None and security.tls.certificate is not None
        self._session = session
        self._handle = handle
        self._conversation: Conversation | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_succeeded = False
        self.presented = NOTHING
        """What the next connection presents."""

    async def prepare(self, address: Address) -> None:
        """Fetch the credentials for a connection. Raises CredentialUnavailable; the first time it ends the session."""
        try:
            self.presented, self._conversation = await self._fetch(address)
        except (errors.CredentialUnavailable, errors.InvalidCredential) as error:
            if not self._has_succeeded:
                self._handle(self._session.fail_authentication(error))
            raise errors.CredentialUnavailable(str(error)) from None

    @property
    def is_wanted(self) -> bool:
        """Whether there is any credential."""
        return bool(self._digests) or self._sasl is not None

    async def authenticate(self, address: Address, request: Callable[[Request[Record]], Awaitable[Record]]) -> None:
        """Authenticate another connection than the session's. Raises AuthenticationFailed, CredentialUnavailable."""
        presented, conversation = await self._fetch(address)

        async def exchange(token: bytes) -> bytes | None:
            reply = await request(Sasl(token))
            return reply.token if isinstance(reply, SaslReply) else None

        if conversation is not None:
            await self._converse(conversation, exchange)
        for scheme, secret in presented.credentials:
            await request(Auth(0, scheme, secret.reveal()))

    async def _fetch(self, address: Address) -> tuple[Presented, Conversation | None]:
        pairs = [(each.scheme, await _call(each.load, blocks=each.blocks)) for each in self._digests]
        if self._sasl is None:
            return Presented(tuple(pairs), has_certificate=self._has_certificate), None
        conversation = await _call(partial(self._sasl.converse, address.host), blocks=self._sasl.blocks)
        return Presented(tuple(pairs), self._sasl.mechanism, self._has_certificate), conversation

    def begin(self) -> None:
        """Speak SASL on the present connection: its handshake is done."""
        self._task = asyncio.get_running_loop().create_task(self._authenticate(), name="zookeeper-sasl")

    def stop(self) -> None:
        """Give up what is under way: the connection is gone."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def note_success(self) -> None:
        """Note that a connection was of use: from now on a credential that is missing may come back."""
        self._has_succeeded = True

    async def _authenticate(self) -> None:
        try:
            assert self._conversation is not None
            await self._converse(self._conversation, self._exchange)
        except errors.CredentialUnavailable as error:
            if self._has_succeeded:
                self._handle([DropConnection(str(error))])
            else:
                self._handle(self._session.fail_authentication(error))
        except errors.ZooKeeperError as error:
            self._handle(self._session.fail_authentication(error))
        except (Exception, asyncio.CancelledError) as error:  # of a package's; without an end the session would hang
            if isinstance(error, asyncio.CancelledError) and _is_stopped():
                raise
            failure = errors.AuthenticationFailed(f"SASL has failed with {type(error).__name__}")
            self._handle(self._session.fail_authentication(failure))
        else:
            self._has_succeeded = True
            self._handle(self._session.establish())

    async def _converse(self, conversation: Conversation, exchange: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        blocks = self._sasl is not None and self._sasl.blocks
        token: bytes | None = await _call(conversation.start, blocks=blocks)
        while token is not None:
            answer = await exchange(token)
            token = await _call(partial(conversation.answer, answer), blocks=blocks)

    async def _exchange(self, token: bytes) -> bytes | None:
        """Send a token and return the server's. Raises AuthenticationFailed."""
        answered: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def done(reply: Record | None, error: Exception | None) -> None:
            if answered.done():
                return
            if isinstance(reply, SaslReply):
                answered.set_result(reply.token)
            else:
                answered.set_exception(error or errors.AuthenticationFailed("the session ended during SASL"))

        request = Pending.for_preface(Sasl(token), XID_AUTH)
        request.done = done
        self._session.tokens.append(request)
        self._handle([])
        return await answered


async def _call(function: Callable[[], T], *, blocks: bool) -> T:
    """Call a function, if it blocks in a thread that does not keep the process alive."""
    if not blocks:
        return function()
    loop = asyncio.get_running_loop()
    returned: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: BaseException | None) -> None:
        if returned.done():
            return  # nothing waits for it any more
        if error is not None:
            returned.set_exception(error)
        else:
            returned.set_result(result)  # type: ignore[arg-type]  # T may be optional itself

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - raised again in the loop
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, result, failure)

    threading.Thread(target=work, name="herdmaster-credential", daemon=True).start()
    return await returned


def _is_stopped() -> bool:
    """Return whether the present task was cancelled by its caller."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
