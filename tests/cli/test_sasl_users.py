"""The file of `herd zookeeper --sasl-users`, and `--require-auth`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from herdmaster.cli.program import herd
from herdmaster.cli.sasl_users import read_users
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.secret import Secret


def test_lines_are_users_and_passwords_and_comments_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("# who\n\nal:p:w\nbö:p\u00f6\r\n", "utf-8")
    assert read_users(str(file)) == {"al": Secret(b"p:w"), "bö": Secret("p\u00f6".encode())}


@pytest.mark.parametrize(
    ("content", "fault"),
    [(None, "cannot be read: no such file"), ("", "has no line"), ("al:pw\nbo\n", "line 2"), ("al:\n", "line 1")],
)
def test_a_file_that_cannot_be_used_is_named_with_its_fault(tmp_path: Path, content: str | None, fault: str) -> None:
    file = tmp_path / "users"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"users file {file}.* ?{fault}"):
        read_users(str(file))


@pytest.mark.parametrize(("scheme", "option"), [("sasl", "--sasl-users"), ("x509", "--tls-client-ca")])
def test_a_scheme_that_no_client_could_use_is_not_required(scheme: str, option: str) -> None:
    result = CliRunner().invoke(herd, ["zookeeper", "--port=0", "--require-auth", scheme])
    assert result.exit_code == 2
    assert f"--require-auth {scheme} needs {option}" in result.stderr
