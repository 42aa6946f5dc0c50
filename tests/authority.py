"""A certificate authority for tests, made by the `openssl` command."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from herdmaster import TLS


class Issued(msgspec.Struct, frozen=True):
    """The files of a certificate and its key, in PEM form."""

    certificate: Path
    key: Path
    ca: Path

    def tls(self, **changed: object) -> TLS:
        """Return settings for this certificate, with its authority."""
        made = TLS(ca=self.ca, certificate=self.certificate, key=self.key)
        return msgspec.structs.replace(made, **changed)


def put(issued: Issued, place: Issued) -> None:
    """Replace the files as an operator does: a reader sees the old file or the new one, and never half of one."""
    for source, target in ((issued.key, place.key), (issued.certificate, place.certificate)):
        fresh = target.with_suffix(".new")
        shutil.copy(source, fresh)
        fresh.replace(target)


class Authority:
    """A root that issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "root") -> None:
        self.folder = folder
        self.ca = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        self._serial = 0
        _make_key(self._key)
        _openssl("req", "-x509", "-new", "-key", self._key, "-out", self.ca, "-subj", f"/CN={name}", "-days", "2")

    @functools.cached_property
    def server(self) -> Issued:
        """The certificate of a server on loopback."""
        return self.issue("server")

    @functools.cached_property
    def client(self) -> Issued:
        """The certificate of a client, `CN=client,OU=tests,O=Herdmaster`."""
        return self.issue("client", hosts=())

    def issue(
        self,
        name: str,
        *,
        subject: str = "",
        hosts: Sequence[str] = ("DNS:localhost", "IP:127.0.0.1"),
        days: int = 2,
        password: str = "",
    ) -> Issued:
        """Issue a certificate. `subject` is as `openssl req -subj` takes it, `hosts` are the alternative names."""
        found = Issued(self.folder / f"{name}.pem", self.folder / f"{name}.key", self.ca)
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        _make_key(found.key, password)
        subject = subject or f"/O=Herdmaster/OU=tests/CN={name}"
        _openssl(
            "req", "-new", "-key", found.key, "-passin", f"pass:{password}", "-out", request, "-subj", subject,
            "-utf8", "-multivalue-rdn",
        )  # fmt: skip
        extensions.write_text(f"subjectAltName={','.join(hosts)}\n" if hosts else "basicConstraints=CA:FALSE\n")
        self._serial += 1
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-set_serial", str(self._serial),
            "-days", str(days), "-extfile", extensions, "-out", found.certificate,
        )  # fmt: skip
        return found


def _make_key(path: Path, password: str = "") -> None:
    secret = ["-aes-256-cbc", "-pass", f"pass:{password}"] if password else []
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", *secret, "-out", path)


def _openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
