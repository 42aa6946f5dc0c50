"""Files of checked blocks: whole, cut short, damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdmaster.zookeeper.server.blocks import Fault, block, header, read_blocks, seed_of


def write_file(path: Path, *payloads: bytes, salt: bytes = b"0123456789abcdef") -> list[int]:
    head = header(salt)
    data = head
    offsets = []
    for payload in payloads:
        offsets.append(len(data))
        data += block(payload, seed_of(head))
    path.write_bytes(data)
    return offsets


def test_payloads_come_back_with_their_offsets(tmp_path: Path) -> None:
    offsets = write_file(tmp_path / "f", b"one", b"", b"three")
    assert list(read_blocks(tmp_path / "f")) == list(zip(offsets, [b"one", b"", b"three"], strict=True))


def test_a_file_cut_anywhere_is_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "f"
    first, second = write_file(path, b"one", b"a longer second one")
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        blocks = read_blocks(path)
        if size >= second:
            assert next(blocks) == (first, b"one")
        if size in (first, second):
            assert list(blocks) == []
            continue
        with pytest.raises(Fault) as raised:
            next(blocks)
        assert raised.value.is_tail


def test_a_change_of_any_byte_before_the_last_block_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "f"
    _, second, last = write_file(path, b"one", b"two", b"three")
    whole = path.read_bytes()
    for at in range(last):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(Fault) as raised:
            list(read_blocks(path))
        assert not raised.value.is_tail
        head = len(header(b"0" * 16))
        assert raised.value.offset == (0 if at < head else head if at < second else second)


def test_a_block_of_another_file_inside_a_torn_one_is_not_taken_for_a_block(tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_file(other, b"x" * 50, salt=b"another salt....")
    path = tmp_path / "f"
    write_file(path, b"one", other.read_bytes() + b"tail")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(Fault) as raised:
        list(read_blocks(path))
    assert raised.value.is_tail
