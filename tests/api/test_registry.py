"""What an app registers is what a worker of this app runs with."""

from __future__ import annotations

from herdmaster.api.registry import Registry
from herdmaster.codecs import CloudpickleCodec


def test_a_worker_decodes_with_the_codec_of_the_app() -> None:
    codec = CloudpickleCodec()

    assert dict(Registry(codec, ()).codecs) == {codec.name: codec}
    assert dict(Registry(None, ()).codecs) == {}
