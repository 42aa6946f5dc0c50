"""`herd access`: give a namespace an access policy, close an open one, show and check what is there."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from herdmaster.cli.failures import Failed
from herdmaster.cli.groups import ShowingGroup
from herdmaster.cli.options import C, json_option
from herdmaster.cli.printing import say, say_json
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from herdmaster.core.access import Policy
    from herdmaster.operations.access import AclSeen, AclState
    from herdmaster.zookeeper.client import Client, ConnectString

_IDENTITIES: Final = ("master", "worker", "client", "observer")
_SCHEMES: Final = ("digest", "sasl", "x509")
_MOST_SHOWN: Final = 20


@click.group(cls=ShowingGroup)
def access() -> None:
    """Say who may do what in a namespace, and check it. Without a command: show.

    An ID is that of ZooKeeper: USER:HASH for digest (see `herd access digest-id`), a distinguished name such as
    CN=worker,O=example for x509, a principal for sasl. SCHEME:ID names a scheme other than that of --scheme.
    """


def _ids(command: C) -> C:
    for name in reversed(_IDENTITIES):
        command = click.option(
            f"--{name}", multiple=True, metavar="ID", help=f"The id of {_article(name)}; may be repeated."
        )(command)
    return click.option("--scheme", type=click.Choice(_SCHEMES), help="The scheme of the ids.")(command)


def _article(name: str) -> str:
    return f"an {name}" if name == "observer" else f"a {name}"


@access.command
@_ids
@session_options()
def init(*, session: Session, scheme: str | None, **ids: tuple[str, ...]) -> None:
    """Create a namespace that is closed from the beginning. The credentials must be those of one of its masters.

    Does nothing if the namespace has this policy already. `herd access migrate` closes a namespace that exists.
    """
    import asyncio

    from herdmaster.operations.access import found_namespace
    from herdmaster.roles.shared.access import read_policy
    from herdmaster.zookeeper.client import Client, ConnectString
    from herdmaster.zookeeper.paths import Chroot

    policy = _policy(scheme, ids)
    hosts = _namespace_of(session)

    async def found() -> bool:
        outside = ConnectString(hosts.addresses, Chroot())
        security = session.find_target().security
        async with Client(outside, connect_timeout=session.connect_timeout, security=security) as client:
            return await found_namespace(client, hosts.chroot.prefix, policy)

    if asyncio.run(found()):
        say(f"created: {hosts.chroot.prefix} is closed; give each program the credentials of its identity")
        return
    known = session.run(read_policy)
    if known is None:
        raise Failed(f"{hosts.chroot.prefix} exists and is open: `herd access migrate` closes it while it is used")
    if known != policy:
        raise Failed(f"{hosts.chroot.prefix} has another policy: `herd access migrate` changes it")
    say(f"{hosts.chroot.prefix} has this policy already")


@access.command
@_ids
@session_options()
def migrate(*, session: Session, scheme: str | None, **ids: tuple[str, ...]) -> None:
    """Close an open namespace, or change the ids of a closed one.

    Programs may use it meanwhile, and the command may be repeated at any time.

    First restart every program with the credentials of its identity: those without are shut out. Without ids the policy
    that is there is applied to every znode once more.
    """
    from herdmaster.operations.access import close_znodes, put_policy
    from herdmaster.roles.shared.access import read_policy

    hosts = _namespace_of(session)
    given = _policy(scheme, ids) if any(ids.values()) else None
    counts: Counter[bool] = Counter()

    async def work(client: Client) -> bool:
        policy = given or await read_policy(client)
        if policy is None:
            raise click.UsageError(f"{hosts.chroot.prefix} is open: name the ids of its identities")
        is_new = await put_policy(client, policy)
        total = await client.count_descendants("/") + 1
        hidden = not sys.stderr.isatty()
        with click.progressbar(length=total, file=sys.stderr, hidden=hidden, show_pos=True) as bar:
            async for seen in close_znodes(client, policy):
                counts[seen.is_wrong] += 1
                bar.update(1)
        return is_new

    is_new = session.run(work)
    say("the policy is new: programs use it from now on" if is_new else "the policy was there already")
    say(f"znodes closed: {counts[True]}; a program without credentials gets NoAuth now, and says so in its log")


@access.command
@json_option
@session_options()
def show(*, session: Session, as_json: bool) -> None:
    """Show the ids of each identity. Exits with 1 if the namespace is open."""
    from herdmaster.core.access import Identity, encode_policy
    from herdmaster.roles.shared.access import read_policy

    policy = session.run(read_policy)
    if policy is None:
        raise Failed("the namespace is open: every session may do everything; `herd access migrate` closes it")
    if as_json:
        say_json(encode_policy(policy))
        return
    for identity in Identity:
        for text in policy.ids_of(identity) or ("(none)",):
            say(f"{identity:<9} {text}")


@access.command
@json_option
@session_options()
def check(*, session: Session, as_json: bool) -> None:
    """Compare the ACL of every znode with what it should be. Exits with 1 if one differs, or if the namespace is open.

    Needs the credentials of a master: others may not see all ACLs. `--json` prints one object for each znode that
    differs.
    """
    from herdmaster.operations.access import survey
    from herdmaster.roles.shared.access import read_policy

    report = _Report(as_json=as_json)

    async def work(client: Client) -> bool:
        policy = await read_policy(client)
        if policy is None:
            return False
        async for seen in survey(client, policy):
            report.tell(seen)
        return True

    if not session.run(work):
        raise Failed("the namespace is open: every session may do everything; `herd access migrate` closes it")
    if report.end():
        click.get_current_context().exit(1)


@access.command("digest-id")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def digest_id(*, file: str) -> None:
    """Print the digest ID of the user and password in FILE. It is one line USER:PASSWORD; `-` is the standard input.

    The same file is the credential of a program. The password must have 16 characters or more, because every program of
    the namespace can read its hash.
    """
    from herdmaster.core import access as policies

    try:
        line = sys.stdin.readline() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise Failed(f"{file} cannot be read: {error}") from None
    user, _, password = line.rstrip("\r\n").partition(":")
    click.echo(policies.digest_id(user, password))


def _policy(scheme: str | None, ids: dict[str, tuple[str, ...]]) -> Policy:
    """Return the policy that the options describe. Raises UsageError, ConfigurationError."""
    from herdmaster.core.access import Identity, Policy

    missing = [f"--{name}" for name in ("master", "worker", "client") if not ids[name]]
    if missing:
        raise click.UsageError(f"a policy needs {', '.join(missing)}")
    return Policy.of({identity: tuple(_id(scheme, text) for text in ids[identity.value]) for identity in Identity})


def _id(scheme: str | None, text: str) -> str:
    if text.partition(":")[0] in _SCHEMES:
        return text
    if scheme is None:
        raise click.UsageError(f"of which scheme is {text}? Give --scheme")
    return f"{scheme}:{text}"


def _namespace_of(session: Session) -> ConnectString:
    from herdmaster.zookeeper.client import parse_connect_string

    hosts = parse_connect_string(session.find_hosts())
    if not hosts.chroot.prefix:
        raise click.UsageError(
            "the connect string names no namespace, as in HOST:PORT/prod: the root belongs to all programs of the "
            "servers, and is not closed"
        )
    return hosts


class _Report:
    """What a check prints."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._counts: Counter[AclState] = Counter()
        self._wrong = 0

    def tell(self, seen: AclSeen) -> None:
        import msgspec

        self._counts[seen.state] += 1
        if not seen.is_wrong:
            return
        self._wrong += 1
        if self._as_json:
            say_json(msgspec.json.encode(seen))
        elif self._wrong <= _MOST_SHOWN:
            say(_line(seen))

    def end(self) -> bool:
        """Print how many znodes are in which state. Return whether one is wrong."""
        if not self._as_json:
            if self._wrong > _MOST_SHOWN:
                say(f"... and {self._wrong - _MOST_SHOWN} more")
            say(", ".join(f"{state}: {count}" for state, count in sorted(self._counts.items())))
        return self._wrong > 0


def _line(seen: AclSeen) -> str:
    has = " ".join(f"{name} {letters}" for name, letters in seen.acl.items()) or "nothing"
    return f"{seen.path}: {seen.state}; has {has}"
