"""Signed tasks: submitted, run, refused and replayed."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from herdmaster import BadSignature, ConfigurationError, Herd, HerdExecutor, TaskFailed
from herdmaster.api.signing_keys import Signing
from herdmaster.codecs import CloudpickleCodec
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome, encode_result
from herdmaster.core.signing import Keyring, SignedOnly, Unsigned
from herdmaster.monitoring.metrics import Metrics
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.running.hooks import Hooks
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.conftest import SESSION_TIMEOUT
from tests.api.znodes import Znodes, wait_until
from tests.cli.processes import HerdProcess, run_herd

pytestmark = pytest.mark.long

SECRET, OTHER = b"topsecret" * 4, b"othersecret" * 3
CODEC = CloudpickleCodec()


class Scene:
    """A namespace with a master and a worker that has keys."""

    def __init__(self, hosts: str, stack: ExitStack) -> None:
        self.hosts = hosts
        self.stack = stack
        self.metrics = Metrics()
        self.failed: list[str] = []

    def run_worker(self, keys: dict[str, bytes] | None, but: Unsigned | None = None) -> None:
        signed_only = None if keys is None else SignedOnly(Keyring(keys), but)
        settings = WorkerSettings(SESSION_TIMEOUT, slots=8, drain_timeout=5.0)
        hooks = Hooks(on_error=lambda _task, error: self.failed.append(type(error).__name__))
        system = System(instruments=self.metrics)
        worker = Worker(
            self.hosts, tasks.registered(), settings, lambda _name, _data: None, system,
            codecs={CODEC.name: CODEC}, hooks=hooks, signed_only=signed_only,
        )  # fmt: skip
        self.stack.enter_context(RunningRoles(worker, Master(self.hosts, MasterSettings(SESSION_TIMEOUT))))

    def herd(self, keys: dict[str, bytes] | None = None, **options: object) -> Herd:
        herd = Herd(self.hosts, session_timeout=2.0, signing_keys=keys, **options)  # type: ignore[arg-type]  # as Herd
        return self.stack.enter_context(herd)


@pytest.fixture
def scene(namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.delenv("HERD_SIGNING_KEYS_FILE", raising=False)
    with ExitStack() as stack:
        yield Scene(namespace, stack)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# the first one signs\n\na {base64.b64encode(SECRET).decode()}\n")
    path.chmod(0o600)
    return path


def test_tasks_of_every_kind_are_signed_and_their_results_too(scene: Scene, znodes: Callable[[str], Znodes]) -> None:
    scene.run_worker({"new": OTHER, "old": SECRET})
    herd = scene.herd({"old": SECRET, "new": OTHER})
    add = herd.task(tasks.add)

    assert add.submit(2, 3).result(20) == 5
    assert add.options(delay=0.1, expires=60, max_attempts=2, key="k").submit(2, 3).result(20) == 5
    assert [future.result(20) for future in herd.submit_many(add, [(1, 1), (2, 2)])] == [2, 4]
    assert list(add.map(range(20), range(20), chunksize=7)) == [2 * number for number in range(20)]
    assert HerdExecutor(herd).submit(add, 1, 2).result(20) == 3
    kept = add.options(keep_outcome=True).submit(2, 3)
    assert kept.result(20) == 5
    status = json.loads(znodes(scene.hosts).read(f"status/{kept.name}"))
    assert status["signature"]["key"] == "new"
    assert scene.herd().future(kept.name).result(20) == 5  # a program without keys reads it as before


def test_an_attempt_again_keeps_the_signature(scene: Scene) -> None:
    scene.run_worker({"a": SECRET})
    herd = scene.herd({"a": SECRET})
    tasks.mended.discard("signed")
    future = herd.task(tasks.fail_until_mended).options(max_attempts=50, backoff=0.01).submit("signed")
    wait_until(lambda: len(scene.failed) > 2, "it has failed")
    tasks.mended.add("signed")
    future.result(20)

    assert "BadSignature" not in scene.failed


def test_a_worker_signs_what_once_saves(scene: Scene) -> None:
    scene.run_worker({"a": SECRET})
    herd = scene.herd({"a": SECRET})
    future = herd.task(tasks.count_once).options(max_attempts=2, backoff=0).submit("signed once")
    assert future.result(20) == 1
    assert tasks.executions["signed once"] == 1


def test_a_worker_without_keys_saves_nothing_of_signed_tasks(scene: Scene) -> None:
    scene.run_worker(None)
    future = scene.herd({"a": SECRET}).task(tasks.count_once).submit("unsigned once")
    with pytest.raises(TaskFailed, match="has to sign them: give its Herd the signing keys"):
        future.result(20)
    assert not tasks.executions["unsigned once"], "it is refused before the function is called"


@pytest.mark.parametrize("keys", [None, {"other": SECRET}, {"a": OTHER}], ids=["none", "unknown", "wrong"])
def test_what_is_signed_otherwise_ends_at_once_without_being_read(
    scene: Scene, keys: dict[str, bytes] | None, monkeypatch: pytest.MonkeyPatch, znodes: Callable[[str], Znodes]
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(CloudpickleCodec, "decode", lambda _self, data: decoded.append(data))
    scene.run_worker({"a": SECRET})
    herd = scene.herd(keys, codec=CloudpickleCodec(unsigned=True))
    future = herd.task(tasks.add).options(max_attempts=5, backoff=0, key="k").submit(2, 3)
    with pytest.raises(BadSignature, match=r"signed|wrong") as caught:
        future.result(20)

    assert "topsecret" not in str(caught.value)
    wait_until(lambda: scene.failed == ["BadSignature"], "the hook is called once")
    assert decoded == []
    assert znodes(scene.hosts).children("dead") == []
    wait_until(lambda: samples(scene.metrics).get("herd_bad_signatures_total") == 1, "it is counted")
    assert samples(scene.metrics)["herd_task_runs_total"] == 1


def samples(metrics: Metrics) -> dict[str, float]:
    """Return the last sample of each name."""
    text, _ = metrics.render()
    families = text_string_to_metric_families(text.decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def _fail() -> bytes:
    raise FileNotFoundError("topsecret")


async def test_a_key_that_cannot_be_had_stops_a_worker_and_a_submission_before_they_begin(scene: Scene) -> None:
    keyring = Keyring({"a": SECRET, "b": _fail})
    worker = Worker(scene.hosts, tasks.registered(), signed_only=SignedOnly(keyring))
    says = "the function for the signing key b raised FileNotFoundError"
    with pytest.raises(ConfigurationError, match=says):
        await worker.run()
    herd = Herd(scene.hosts, signing_keys={"a": SECRET, "b": _fail})
    with pytest.raises(ConfigurationError, match=says):
        await herd.task(tasks.add).submit_async(1, 2)
    assert herd._core.not_ready() == says


def test_a_payload_that_was_changed_in_zookeeper_is_refused(scene: Scene, znodes: Callable[[str], Znodes]) -> None:
    herd = scene.herd({"a": SECRET})
    future = herd.task(tasks.add).submit(2, 3)
    path = f"tasks/{future.name}"
    data = znodes(scene.hosts).read(path)
    znodes(scene.hosts).delete(path)
    znodes(scene.hosts).create(path, data.replace(b"[2,3]", b"[2,4]"))
    scene.run_worker({"a": SECRET})

    with pytest.raises(BadSignature, match="wrong"):
        future.result(20)


def test_raw_tasks_are_refused_unless_that_is_said(scene: Scene) -> None:
    scene.run_worker({"a": SECRET})
    with pytest.raises(ConfigurationError, match="a raw task cannot be signed"):
        scene.herd({"a": SECRET}).submit_raw(b"x")
    with pytest.raises(BadSignature):
        scene.herd().submit_raw(b"x").result(20)


def test_raw_tasks_run_where_that_is_said(scene: Scene) -> None:
    scene.run_worker({"a": SECRET}, Unsigned.RAW)

    assert scene.herd({"a": SECRET}, allow_unsigned="raw").submit_raw(b"x").result(20) is None


def test_keys_are_introduced_on_one_side_after_the_other(scene: Scene) -> None:
    lenient = scene.herd({"a": SECRET}, allow_unsigned="all")
    scene.run_worker(None)
    assert lenient.task(tasks.add).submit(2, 3).result(20) == 5
    assert scene.herd().task(tasks.add).submit(2, 3).result(20) == 5
    with pytest.raises(BadSignature, match="is not signed"):
        scene.herd({"a": SECRET}).task(tasks.add).submit(2, 3).result(20)
    scene.stack.pop_all().close()
    scene.run_worker({"a": SECRET}, Unsigned.ALL)
    assert scene.herd().task(tasks.add).submit(2, 3).result(20) == 5
    assert scene.herd({"a": SECRET}).task(tasks.add).submit(2, 3).result(20) == 5


def test_a_result_without_a_signature_is_not_read(scene: Scene, znodes: Callable[[str], Znodes]) -> None:
    future = scene.herd({"a": SECRET}).task(tasks.add).submit(2, 3)
    status = encode_outcome(future.name, Outcome(OutcomeState.DONE, encode_result(6)))
    znodes(scene.hosts).create(f"status/{future.name}", status)

    with pytest.raises(BadSignature, match="is not signed"):
        future.result(20)


def test_the_tasks_of_a_schedule_are_signed_although_the_primary_makes_them(scene: Scene) -> None:
    scene.run_worker({"a": SECRET})
    for herd in (scene.herd({"a": SECRET}), scene.herd()):
        task = herd.task(tasks.add).options(expires=60)
        herd.schedule("nightly", task, (2, 3), every=timedelta(days=1))
        herd.schedules.apply("app:herd")
        future = herd.future(herd.schedules.run("nightly"))
        if herd.__herdmaster_app__.keyring is not None:
            assert future.result(20) == 5
            assert herd.schedules.apply("app:herd").is_empty
        else:
            with pytest.raises(BadSignature, match="is not signed"):
                future.result(20)


def test_cloudpickle_works_with_keys_or_if_it_is_said_that_it_needs_none(scene: Scene) -> None:
    scene.run_worker({"a": SECRET})
    for keys, codec in (({"a": SECRET}, CODEC), ({"a": SECRET}, CloudpickleCodec(unsigned=True))):
        assert scene.herd(keys, codec=codec).task(tasks.echo).submit({1, 2}).result(20) == {1, 2}
    with pytest.raises(ConfigurationError, match=r"signing_keys="):
        scene.herd({"a": SECRET}, allow_unsigned="all", codec=CODEC).task(tasks.echo).submit(1)
    herd = scene.herd(codec=CODEC)
    refused: list[Callable[[], object]] = [
        lambda: herd.task(tasks.echo).submit(1),
        lambda: herd.future("task-1"),
        lambda: herd.__herdmaster_app__.signed_only,
    ]
    for use in refused:
        with pytest.raises(ConfigurationError, match=r"signing_keys=, or say CloudpickleCodec\(unsigned=True\)"):
            use()


def test_keys_of_the_environment_are_for_commands_too(
    scene: Scene, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.run_worker({"a": SECRET})
    environment = {"HERD_ZOOKEEPER": scene.hosts, "HERD_SIGNING_KEYS_FILE": str(key_file)}
    for options in (["--unchecked"], ["--unchecked", "--expires", "1m"]):
        done = run_herd("submit", "tests.api.tasks:add", "2", "3", "--wait", *options, environment=environment)
        assert (done.stdout, done.stderr) == ("5\n", "")
    done = run_herd("submit", "tests.api.tasks:add", "2", "3", "--unchecked", environment=environment)
    monkeypatch.setenv("HERD_SIGNING_KEYS_FILE", str(key_file))
    assert scene.herd().future(done.stdout.strip()).result(20) == 5
    assert scene.herd().task(tasks.add).submit(2, 3).result(20) == 5


def test_a_dead_task_is_verified_and_signed_for_its_new_name(
    scene: Scene, key_file: Path, znodes: Callable[[str], Znodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.run_worker({"a": SECRET})
    herd = scene.herd({"a": SECRET})
    tasks.mended.discard("replayed")
    future = herd.task(tasks.fail_until_mended).options(max_attempts=2, backoff=0).submit("replayed")
    with pytest.raises(Exception, match="replayed"):
        future.result(20)
    tasks.mended.add("replayed")
    environment = {"HERD_ZOOKEEPER": scene.hosts}
    done = run_herd("dead", "replay", future.name, environment=environment)
    assert (done.returncode, "set HERD_SIGNING_KEYS_FILE" in done.stdout + done.stderr) == (1, True)

    environment["HERD_SIGNING_KEYS_FILE"] = str(key_file)
    done = run_herd("dead", "replay", future.name, "--json", environment=environment)
    herd.future(json.loads(done.stdout)["new"]).result(20)
    assert znodes(scene.hosts).children("dead") == []


def test_a_worker_without_an_app_has_the_keys_of_the_environment(namespace: str, key_file: Path, scene: Scene) -> None:
    environment = {"HERD_SIGNING_KEYS_FILE": str(key_file)}
    with HerdProcess("master", namespace), HerdProcess("worker", namespace, environment=environment) as worker:
        worker.wait_for_log("is ready")
        with pytest.raises(BadSignature):
            scene.herd().submit_raw(b"x").result(20)


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, r"cannot be read: No such file"),
        ("", "there are no signing keys in"),
        ("# a comment\n", "there are no signing keys in"),
        ("a topsecret!\n", "line 1 of .* is not `ID SECRET`"),
        ("topsecret\n", "line 1 of .* is not `ID SECRET`"),
        (f"a/b {base64.b64encode(SECRET).decode()}\n", "line 1 of .*: the id of a signing key is"),
        (f"a {base64.b64encode(SECRET).decode()}\n" * 2, "line 2 of .* has the id a once more"),
        (f"a {base64.b64encode(b'topsecret').decode()}\n", "line 1 of .*: the signing key a has 9 bytes"),
        ("a töpsecret\n", "other characters than ASCII"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_error_without_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, says: str
) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("HERD_SIGNING_KEYS_FILE", str(path))
    with pytest.raises(ConfigurationError, match=says) as caught:
        Signing().find_keyring()
    assert f"{path} ($HERD_SIGNING_KEYS_FILE)" in str(caught.value)
    encoded = base64.b64encode(b"topsecret").decode()
    assert not any(word in str(caught.value) for word in ("topsecret", encoded, base64.b64encode(SECRET).decode()))


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_can_read_is_told(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: int, is_told: bool
) -> None:
    key_file.chmod(mode)
    monkeypatch.setenv("HERD_SIGNING_KEYS_FILE", str(key_file))

    assert repr(Signing().find_keyring()) == "<Keyring of a>"
    assert ["can read the signing keys" in record.message for record in caplog.records] == [True] * is_told


def test_keys_that_are_given_come_before_those_of_the_environment(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERD_SIGNING_KEYS_FILE", str(key_file))
    assert repr(Signing({"b": SECRET}).find_keyring()) == "<Keyring of b>"
    monkeypatch.delenv("HERD_SIGNING_KEYS_FILE")
    assert Signing().find_keyring() is None


def test_no_secret_is_in_what_a_herd_and_its_worker_show(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "secretive.py").write_text(
        "from herdmaster import Herd\n"
        f"herd = Herd(signing_keys={{'a': {SECRET!r}}})\n"
        "print(herd, herd.__herdmaster_app__.signing, herd.__herdmaster_app__.keyring, herd._core.settings)\n"
        "@herd.task(max_attempts=2)\n"
        "def fail(x: int) -> None:\n"
        "    raise LookupError('as it should')\n"
    )
    environment = {"HERD_ZOOKEEPER": scene.hosts}
    common = ("--log-level", "debug")
    with (
        HerdProcess("master", *common, environment=environment) as master,
        HerdProcess("worker", "--app=secretive", *common, folder=tmp_path, environment=environment) as worker,
    ):
        worker.wait_for_log("is ready")
        done = run_herd("submit", "secretive:fail", "5", "--wait", folder=tmp_path, environment=environment)
        wrong = run_herd("submit", "secretive:fail", "5", "--unchecked", "--wait", environment=environment)
        worker.wait_for_log("BadSignature")
        printed = [done.stdout, done.stderr, wrong.stdout, wrong.stderr, master.stderr, worker.stderr, worker.stdout]

    assert "LookupError" in done.stderr
    assert "BadSignature" in wrong.stderr or "is not signed" in wrong.stderr
    assert not any("topsecret" in text or base64.b64encode(SECRET).decode() in text for text in printed)
