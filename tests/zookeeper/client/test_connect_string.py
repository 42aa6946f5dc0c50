"""What a connect string says, and what is wrong with one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.errors import HerdError
from herdmaster.zookeeper.client.connect_string import Address, parse_connect_string
from herdmaster.zookeeper.errors import InvalidConnectString


@pytest.mark.parametrize(
    ("text", "addresses", "chroot"),
    [
        ("localhost:2181", [("localhost", 2181)], ""),
        ("zk1:2181,zk2:2182,zk3:2183/prod", [("zk1", 2181), ("zk2", 2182), ("zk3", 2183)], "/prod"),
        ("zk1", [("zk1", 2181)], ""),
        ("zk1/a/b", [("zk1", 2181)], "/a/b"),
        ("zk1:1/", [("zk1", 1)], ""),
        (" zk1:1 , zk_2.example.com.:65535 ", [("zk1", 1), ("zk_2.example.com.", 65535)], ""),
        ("10.0.0.1:2181", [("10.0.0.1", 2181)], ""),
        ("[::1]:2181,[fe80::1%eth0]", [("::1", 2181), ("fe80::1%eth0", 2181)], ""),
    ],
)
def test_a_connect_string_names_servers_and_a_chroot(text: str, addresses: list[tuple[str, int]], chroot: str) -> None:
    parsed = parse_connect_string(text)
    assert [(address.host, address.port) for address in parsed.addresses] == addresses
    assert parsed.chroot.prefix == chroot
    assert parse_connect_string(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'' is not host:port"),
        ("/path", "'' is not host:port"),
        ("zk1,,zk2", "'' is not host:port"),
        ("zk1:", "'zk1:' is not host:port"),
        ("zk1:port", "'zk1:port' is not host:port"),
        ("zk1:0", "'zk1:0' is not host:port"),
        ("zk1:65536", "'zk1:65536' is not host:port"),
        ("zk 1:2181", "'zk 1:2181' is not host:port"),
        ("zk1..example:2181", "is not host:port"),
        ("z" * 64 + ":2181", "is not host:port"),
        ("http://zk1:2181", "'http:' is not host:port"),
        ("::1:2181", "in brackets"),
        ("[::zz]:2181", "'::zz' is not an IPv6 address"),
        ("zk1:2181/a//b", "empty segment"),
        ("zk1:2181/a/", "must not end with '/'"),
    ],
)
def test_a_bad_connect_string_is_refused_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(InvalidConnectString, match=fault) as caught:
        parse_connect_string(text)
    assert isinstance(caught.value, HerdError)
    assert isinstance(caught.value, ValueError)


@given(st.text(max_size=30) | st.text("a1:,/.[]% -", max_size=20))
def test_any_text_is_a_connect_string_or_refused(text: str) -> None:
    try:
        parsed = parse_connect_string(text)
    except InvalidConnectString:
        return
    assert parsed.addresses
    for address in parsed.addresses:
        assert address.host.encode("idna" if ":" not in address.host else "ascii")


def test_an_address_is_written_as_it_is_read() -> None:
    assert str(Address("::1", 2181)) == "[::1]:2181"
    assert str(Address("zk1", 2181)) == "zk1:2181"
