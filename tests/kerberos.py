"""A Kerberos realm for tests: a KDC of MIT's on loopback, with its database, principals and keytabs in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

import pytest

from herdmaster.testing.child import WatchedChild
from herdmaster.testing.ports import LOOPBACK, free_ports

REALM: Final = "HERD.TEST"
SERVER: Final = f"zookeeper/localhost@{REALM}"

_PROGRAMS: Final = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PATH: Final = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_PATIENCE: Final = 20.0

_KRB5_CONF: Final = """
[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 clockskew = 1
[realms]
 {realm} = {{
  kdc = {host}:{port}
 }}
[domain_realm]
 localhost = {realm}
"""

_KDC_CONF: Final = """
[kdcdefaults]
 kdc_listen = {host}:{port}
 kdc_tcp_listen = {host}:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  supported_enctypes = aes256-cts-hmac-sha1-96:normal
 }}
"""

_JAAS: Final = """
Server {{
 com.sun.security.auth.module.Krb5LoginModule required
 useKeyTab=true storeKey=true useTicketCache=false isInitiator=false
 keyTab="{keytab}" principal="{principal}";
}};
"""


def require() -> None:
    """Skips the test, or in CI fails it, where there can be no realm."""
    absent = [program for program in _PROGRAMS if shutil.which(program, path=_PATH) is None]
    if not find_spec("gssapi"):
        absent.append("Python package gssapi")
    if absent:
        reason = f"no {', '.join(absent)}: run scripts/install-kerberos"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


class Realm:
    """A running KDC. `principals` get a keytab each, beside the server's."""

    def __init__(self, folder: Path, principals: Iterable[str]) -> None:
        self._folder = folder
        (port,) = free_ports(1)
        values = {"realm": REALM, "host": LOOPBACK, "port": port, "folder": folder}
        self.config = folder / "krb5.conf"
        self.config.write_text(_KRB5_CONF.format(**values))
        (folder / "kdc.conf").write_text(_KDC_CONF.format(**values))
        self._environment = {
            **os.environ,
            "PATH": _PATH,
            "KRB5_CONFIG": str(self.config),
            "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
        }
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self._administer(
            line
            for name in (SERVER.partition("@")[0], *principals)
            for line in (f"addprinc -randkey {name}", f"ktadd -k {self.keytab(name)} {name}")
        )
        self._kdc = WatchedChild(
            [
                *(
                    "env",
                    *(f"{name}={self._environment[name]}" for name in ("PATH", "KRB5_CONFIG", "KRB5_KDC_PROFILE")),
                ),
                *("krb5kdc", "-n", "-r", REALM, "-P", str(folder / "pid")),
            ],
            log=folder / "kdc.log",
        )
        self._wait_until_it_listens(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kdc.kill()

    @property
    def java_options(self) -> tuple[str, ...]:
        """Of an Apache ZooKeeper of this realm."""
        jaas = self._folder / "jaas.conf"
        jaas.write_text(_JAAS.format(keytab=self.keytab("zookeeper/localhost"), principal=SERVER))
        return (f"-Djava.security.auth.login.config={jaas}", f"-Djava.security.krb5.conf={self.config}")

    def keytab(self, principal: str) -> Path:
        return self._folder / f"{principal.replace('/', '-')}.keytab"

    def kinit(self, principal: str, cache: Path, *, seconds: int) -> None:
        """Puts a ticket into a cache."""
        keytab = str(self.keytab(principal))
        self._run("kinit", "-c", f"FILE:{cache}", "-l", f"{seconds}s", "-k", "-t", keytab, principal)

    def limit(self, principal: str, *, seconds: int) -> None:
        """Tickets of this principal live no longer from now on."""
        self._administer([f"modprinc -maxlife {seconds}sec {principal}"])

    def _administer(self, lines: Iterable[str]) -> None:
        self._run("kadmin.local", "-r", REALM, text="".join(f"{line}\n" for line in lines))

    def _run(self, *command: str, text: str = "") -> None:
        done = subprocess.run(
            command, input=text, env=self._environment, text=True, capture_output=True, timeout=_PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr

    def _wait_until_it_listens(self, port: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.create_connection((LOOPBACK, port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, (self._folder / "kdc.log").read_text()
                time.sleep(0.02)
            else:
                return
