"""Type hints and codecs between a client and a worker."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import datetime as dt
import decimal
import logging
import pathlib
import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest

from herdmaster import ConfigurationError, Future, Herd, NotSerializable, WrongArguments
from herdmaster.api import io_logs
from herdmaster.codecs import CloudpickleCodec
from herdmaster.errors import BadOutcome, BadPayload
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.testing.apache import ApacheZooKeeper
from herdmaster.testing.running import RunningRoles
from tests.api import typed_tasks
from tests.api.conftest import SESSION_TIMEOUT
from tests.api.typed_tasks import FUNCTIONS, Colour, Picture, Point, TypedApp

pytestmark = pytest.mark.long

CODEC = CloudpickleCodec(unsigned=True)
PICTURE = Picture("a.png", (1, 2), frozenset({Colour.RED}), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), pathlib.Path("a/b"))


@pytest.fixture(scope="module")
def hosts(apache: ApacheZooKeeper) -> Iterator[str]:
    """A namespace with two workers: only the one of the queue `mail` was given the codec."""
    hosts = f"{apache.hosts}/typed-{uuid.uuid4().hex}"
    functions = {f"{function.__module__}:{function.__qualname__}": function for function in FUNCTIONS}

    def worker(queue: str, *codecs: CloudpickleCodec) -> Worker:
        settings = WorkerSettings(SESSION_TIMEOUT, slots=4, queues=(queue,), drain_timeout=5.0)
        return Worker(hosts, functions, settings, codecs={codec.name: codec for codec in codecs})

    with RunningRoles(worker("default"), worker("mail", CODEC), Master(hosts, MasterSettings(SESSION_TIMEOUT))):
        yield hosts


@pytest.fixture
def app(hosts: str, make_herd: Callable[..., Herd]) -> TypedApp:
    typed_tasks.arrived.clear()
    return TypedApp(make_herd(hosts))


@pytest.fixture
def pickling(hosts: str, make_herd: Callable[..., Herd]) -> TypedApp:
    typed_tasks.arrived.clear()
    return TypedApp(make_herd(hosts, codec=CODEC))


# --- type hints ------------------------------------------------------------------------------------------------------


def test_arguments_arrive_as_their_hints_say_and_so_does_the_result(app: TypedApp) -> None:
    enlarged = app.enlarge.submit(PICTURE, by=3).result(20)

    assert typed_tasks.arrived == [PICTURE]
    assert enlarged == Picture("a.png", (3, 6), PICTURE.colours, PICTURE.taken, PICTURE.path)
    assert app.enlarge(PICTURE, by=3) == enlarged  # as a plain call gives it


async def test_a_result_that_is_awaited_is_as_its_hint_says(app: TypedApp) -> None:
    assert await (await app.enlarge.submit_async(PICTURE)) == app.enlarge(PICTURE)


def test_arguments_of_every_kind_arrive_as_their_hints_say(app: TypedApp) -> None:
    points = [Point(number) for number in range(4)]
    found = app.move.submit(*points[:2], by=points[2], last=points[3]).result(20)

    assert typed_tasks.arrived == points
    assert found == {"all": points}


def test_bytes_dates_and_paths_arrive_as_they_went(app: TypedApp) -> None:
    assert app.invert.submit(b"\x00\xff\x01").result(20) == b"\xff\x00\xfe"
    values = (dt.date(2026, 1, 2), uuid.UUID(int=3), pathlib.Path("a"))
    assert app.pick.submit(*values).result(20) == values
    assert typed_tasks.arrived == [b"\x00\xff\x01", *values]


def test_without_hints_everything_is_plain_json(app: TypedApp) -> None:
    assert app.untyped.submit((1, pathlib.Path("a"))).result(20) == [1, "a"]
    assert typed_tasks.arrived == [[1, "a"]]


def test_hints_hold_for_each_item_of_a_map(app: TypedApp) -> None:
    pictures = [Picture(str(number), (number,)) for number in range(10)]

    for chunksize in (1, 4):
        assert list(app.enlarge.map(pictures, chunksize=chunksize)) == [app.enlarge(each) for each in pictures]


def test_a_wrong_type_is_refused_before_anything_is_sent(app: TypedApp) -> None:
    with pytest.raises(WrongArguments, match=r"tests\.api\.typed_tasks:enlarge takes `by: int`.* Expected `int`"):
        app.enlarge.submit(PICTURE, by="3")  # type: ignore[arg-type]  # what is refused
    with pytest.raises(TypeError, match="misses `picture`"):
        app.enlarge.submit()  # type: ignore[call-arg]  # as above
    with pytest.raises(WrongArguments, match="takes no argument `colour`"):
        app.enlarge.submit(PICTURE, colour=1)  # type: ignore[call-arg]  # as above
    with pytest.raises(WrongArguments, match=r"`by: tests\.api\.typed_tasks\.Point`"):
        app.herd.submit_call("tests.api.typed_tasks:move", [], {"by": 5})
    assert app.herd._core._io_thread is None


def test_a_worker_refuses_what_a_client_that_knows_no_hints_sent(hosts: str, make_herd: Callable[..., Herd]) -> None:
    typed_tasks.arrived.clear()
    future: Future[object] = make_herd(hosts).submit_call("tests.api.typed_tasks:enlarge", [{"name": "a"}])

    with pytest.raises(
        WrongArguments,
        match=r"enlarge takes `picture: \S*Picture`.* missing required field `sizes`",
    ):
        future.result(20)
    assert typed_tasks.arrived == []


def test_a_client_that_knows_no_hints_sends_and_gets_plain_json(hosts: str, make_herd: Callable[..., Herd]) -> None:
    picture = {"name": "a", "sizes": [1], "path": "x"}
    future: Future[object] = make_herd(hosts).submit_call("tests.api.typed_tasks:enlarge", [picture])

    assert future.result(20) == {"name": "a", "sizes": [2], "colours": [], "taken": None, "path": "x"}


def test_a_result_that_its_hint_does_not_say_is_given_as_it_came_and_logged(
    app: TypedApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "herdmaster.client"):
        found: list[object] = [app.lying.submit("text").result(20), app.lying.submit([1]).result(20)]

    assert found == ["text", [1]]
    io_logs.flush()
    (warning,) = [record for record in caplog.records if "return hint" in record.message]
    assert "typed_tasks:lying gave what its return hint does not say (Expected `int`, got `str`" in warning.getMessage()


def test_a_class_of_the_users_is_never_made_on_the_thread_that_talks_to_zookeeper(app: TypedApp) -> None:
    typed_tasks.made_on.clear()
    assert app.enlarge.submit(PICTURE).result(20).sizes == (2, 4)

    assert any(name.startswith("herdmaster-callbacks") for name in typed_tasks.made_on)
    assert "herdmaster-io" not in typed_tasks.made_on


# --- codecs ----------------------------------------------------------------------------------------------------------


def test_a_codec_carries_what_json_cannot(pickling: TypedApp) -> None:
    by = 10

    assert pickling.apply.options(queue="mail").submit(lambda value: value + by, 5).result(20) == 15
    found = pickling.untyped.options(queue="mail").submit({1j: {decimal.Decimal(1)}}).result(20)
    assert found == {1j: {decimal.Decimal(1)}}
    assert typed_tasks.arrived == [found]


def test_a_codec_carries_each_item_of_a_chunk(pickling: TypedApp) -> None:
    values = [complex(0, number) for number in range(10)]

    assert list(pickling.untyped.options(queue="mail").map(values, chunksize=3)) == values


def test_a_worker_without_the_codec_decodes_nothing(pickling: TypedApp) -> None:
    with pytest.raises(BadPayload, match=r"the codec 'cloudpickle', which this app was not given; it has none"):
        pickling.untyped.submit(1).result(20)
    assert typed_tasks.arrived == []


def test_a_client_without_the_codec_decodes_nothing(pickling: TypedApp, app: TypedApp) -> None:
    future = app.herd.future(pickling.untyped.options(queue="mail").submit(1).name)

    with pytest.raises(BadOutcome, match="the result is written with the codec 'cloudpickle', which this app was not"):
        future.result(20)


def test_a_future_that_is_known_by_name_is_decoded_by_the_codec_of_its_herd(pickling: TypedApp) -> None:
    name = pickling.untyped.options(queue="mail").submit(1j).name

    assert pickling.herd.future(name).result(20) == 1j


def test_one_worker_runs_calls_with_and_without_the_codec(app: TypedApp) -> None:
    assert app.enlarge.options(queue="mail").submit(PICTURE).result(20) == app.enlarge(PICTURE)


def test_names_of_arguments_are_checked_under_a_codec_too(pickling: TypedApp) -> None:
    with pytest.raises(WrongArguments, match="misses `picture`"):
        pickling.enlarge.submit()  # type: ignore[call-arg]  # what is refused
    with pytest.raises(NotSerializable, match="by the codec cloudpickle"):
        pickling.untyped.submit(threading.Lock())
    assert pickling.herd._core._io_thread is None


@pytest.mark.parametrize("codec", [5, "pickle", CloudpickleCodec, object()], ids=["number", "name", "class", "object"])
def test_what_is_no_codec_is_refused(codec: object) -> None:
    with pytest.raises(ConfigurationError, match="codec"):
        Herd("localhost:1", codec=codec)  # type: ignore[arg-type]  # what is refused


def test_a_codec_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    with pytest.raises(ConfigurationError, match=r"install herdmaster\[cloudpickle\]"):
        CloudpickleCodec()
