"""What can be a task, and what becomes of two functions under one name."""

from __future__ import annotations

import functools
import importlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from herdmaster import ConfigurationError, Herd
from tests.api import tasks

HERE = re.escape(__file__)


@pytest.fixture
def herd() -> Herd:
    return Herd("localhost:1")


# --- what cannot be a task -------------------------------------------------------------------------------------------


async def _async_generator() -> AsyncIterator[int]:
    yield 1


def _generator() -> Iterator[int]:
    yield 1


def _plainly_wrapped(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


async def _fetch(url: str) -> str:
    return url


class _Mail:
    def __call__(self) -> None: ...

    def send(self, to: str) -> str:
        return to

    @classmethod
    def make(cls) -> _Mail:
        return cls()

    @staticmethod
    def address(name: str) -> str:
        return name


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (_async_generator, rf"{HERE}:{_async_generator.__code__.co_firstlineno}: .*return a list instead"),
        (_generator, "return a list instead"),
        (lambda: None, rf"{HERE}:\d+: a lambda has no name .* write a `def` at the top of a module"),
        (functools.partial(tasks.add, 1), r"tasks\.py:\d+: functools\.partial.* has no name"),
        (_Mail(), rf"{HERE}:\d+: .*is no function that is written in Python"),
        (len, rf"{HERE}:\d+: <built-in function len> is no function that is written in Python"),
        (_Mail, "is no function that is written in Python"),
        (functools.lru_cache(tasks.add), r"tasks\.py:\d+: .*is no function that is written in Python"),
        (_Mail().send, rf"{HERE}:\d+: _Mail\.send is a method"),
        (_Mail.send, rf"{HERE}:\d+: _Mail\.send is a method, and a worker has no object to call it on"),
        (_Mail.__dict__["make"], rf"{HERE}:\d+: _Mail\.make is a classmethod"),
        (_Mail.__dict__["address"], r"_Mail\.address is a staticmethod object: write @staticmethod above @herd\.task"),
        (_plainly_wrapped(_fetch), rf"{HERE}:{_fetch.__code__.co_firstlineno}: _fetch is an `async def` behind a deco"),
        (_plainly_wrapped(_Mail.send), r"_Mail\.send is a method"),
    ],
)
def test_what_a_worker_could_not_run_is_refused_where_it_is_defined(
    herd: Herd, function: Callable[..., object], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        herd.task(function)
    with pytest.raises(ConfigurationError, match=says):
        herd.task(queue="mail")(function)
    assert not herd._core.registry.functions


def test_a_task_is_no_function_to_register(herd: Herd) -> None:
    task = herd.task(tasks.add)

    with pytest.raises(ConfigurationError, match=r"<Task tests\.api\.tasks:add> is a task already: task\.options"):
        herd.task(task)


def test_a_static_method_can_be_a_task(herd: Herd) -> None:
    class Mail:
        @staticmethod
        @herd.task
        def send(to: str) -> str:
            return f"to {to}"

    assert Mail.send("me") == "to me"
    assert Mail.send.call in herd._core.registry.functions


# --- two functions under one name ------------------------------------------------------------------------------------


def _logged(function: Callable[..., object]) -> Callable[..., object]:
    """As half of the world's decorators: without functools.wraps."""

    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


def _scaled(herd: Herd, factor: object) -> object:
    @herd.task
    def scale(x: float) -> object:
        return (factor, x)

    return scale


def test_another_function_of_a_name_that_is_taken_is_refused_with_both_places(herd: Herd) -> None:
    def same() -> int:
        return 1

    first = same
    herd.task(first)

    def same() -> int:  # type: ignore[no-redef]  # that is what is tested
        return 2

    lines = first.__code__.co_firstlineno, same.__code__.co_firstlineno
    says = rf"two different functions are registered as .*same, at {HERE}:{lines[0]} and {HERE}:{lines[1]}, "
    with pytest.raises(ConfigurationError, match=says):
        herd.task(same)

    assert [each.function for each in herd._core.registry.functions.values()] == [first]


def test_wrappers_of_two_functions_that_share_a_name_are_refused_with_the_places_of_the_functions(herd: Herd) -> None:
    herd.task(_logged(tasks.add))

    with pytest.raises(ConfigurationError, match=r"tasks\.py:\d+ and \S*tasks\.py:\d+, .*functools\.wraps") as refused:
        herd.task(_logged(tasks.echo))

    lines = [function.__code__.co_firstlineno for function in (tasks.add, tasks.echo)]
    assert [int(line) for line in re.findall(r"tasks\.py:(\d+)", str(refused.value))] == lines
    assert len(herd._core.registry.functions) == 1


def test_one_function_with_another_closure_or_default_is_another_function(herd: Herd) -> None:
    _scaled(herd, 2)

    with pytest.raises(ConfigurationError, match=r"made twice there, with another `factor` the second time"):
        _scaled(herd, 3)
    with pytest.raises(ConfigurationError, match="factor"):
        _scaled(herd, object())


def test_one_function_with_another_default_is_another_function(herd: Herd) -> None:
    def define(default: int) -> None:
        @herd.task
        def of_default(x: int = default) -> int:
            return x

    define(1)
    define(1)
    with pytest.raises(ConfigurationError, match="made twice there, with another `default` the second time"):
        define(2)


def test_what_is_made_twice_alike_is_one_function(herd: Herd) -> None:
    for _ in range(2):
        _scaled(herd, 2)
        _scaled(Herd("localhost:1"), 3)  # of another Herd
        herd.task(_logged(tasks.add))
        herd.task(queue="mail")(_plainly_wrapped(tasks.echo))

    assert len(herd._core.registry.functions) == 3


def test_one_function_may_be_registered_again_with_other_options(herd: Herd) -> None:
    herd.task(tasks.add)
    herd.task(max_attempts=3)(tasks.add)

    assert herd._core.registry.functions["tests.api.tasks:add"].options.max_attempts == 3


# --- modules that are loaded again -----------------------------------------------------------------------------------

CORE = "from herdmaster import Herd\nherd = Herd('localhost:1')\n"
SHOP = """\
from {core} import herd
def logged(function):
    import functools
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@herd.task
@logged
def refund(order):
    return ["refunded", order]

@herd.task
def make(order, into={{}}):
    return object()
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """A module with tasks on a Herd that another module holds; its names are not used by another test."""
    name = f"reloaded_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}_core.py").write_text(CORE)
    (tmp_path / f"{name}.py").write_text(SHOP.format(core=f"{name}_core"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return importlib.import_module(name)


def _reload(module: ModuleType, text: str | None = None) -> ModuleType:
    if text is not None:
        assert module.__file__ is not None
        Path(module.__file__).write_text(text.format(core=f"{module.__name__}_core"))
    return importlib.reload(module)


def test_a_module_that_is_loaded_again_registers_its_functions_anew(shop: ModuleType) -> None:
    first = shop.make.function
    _reload(shop)
    assert shop.herd._core.registry.functions[shop.make.call].function is shop.make.function is not first

    _reload(shop, "# the lines move\n" + SHOP)
    assert shop.herd._core.registry.functions[shop.refund.call].function is shop.refund.function


def test_a_module_that_is_loaded_again_may_not_have_two_functions_under_one_name_either(shop: ModuleType) -> None:
    again = SHOP + "\n@herd.task\ndef make(order):\n    return 'another'\n"

    with pytest.raises(ConfigurationError, match=rf"{shop.__name__}:make, at \S*:14 and \S*:18, and a worker"):
        _reload(shop, again)


def test_another_module_that_takes_the_name_of_the_first_is_refused(shop: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / f"{shop.__name__}.py"
    other.write_text(SHOP.format(core=f"{shop.__name__}_core"))
    spec = importlib.util.spec_from_file_location(shop.__name__, other)
    assert spec is not None
    assert spec.loader is not None

    with pytest.raises(ConfigurationError, match=r"other/"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _python(folder: Path, *arguments: str, typed: str = "") -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, input=typed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30,
    )  # fmt: skip
    return ended.stdout


def test_a_module_may_be_the_program_and_be_imported_by_its_name(shop: ModuleType, tmp_path: Path) -> None:
    program = (
        SHOP.format(core=f"{shop.__name__}_core")
        + "import shop_main\nprint(refund.call, len(herd._core.registry.functions))\n"
    )
    (tmp_path / "shop_main.py").write_text(program)

    assert _python(tmp_path, "-m", "shop_main") == "shop_main:refund 2\nshop_main:refund 2\n"


def test_a_function_may_be_typed_again_at_a_prompt(tmp_path: Path) -> None:
    definition = "@herd.task\ndef f():\n    return {}\n\n"
    typed = f"{CORE}{definition.format(1)}{definition.format(2)}f()\n"

    assert "2" in _python(tmp_path, "-i", "-q", typed=typed).replace(">>>", "").split()


def test_a_file_that_has_two_functions_under_one_name_does_not_load(tmp_path: Path) -> None:
    definition = "@herd.task\ndef f():\n    return {}\n\n"
    (tmp_path / "double.py").write_text(f"{CORE}{definition.format(1)}{definition.format(2)}")

    shown = _python(tmp_path, "double.py")

    assert "two different functions are registered as __main__:f, at " in shown
    assert re.search(r"double\.py:3 and \S*double\.py:7", shown)


def test_a_process_of_a_pool_refuses_such_an_app_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from herdmaster.running.child import Setting, load_program

    (tmp_path / "double_in_child.py").write_text(CORE + "@herd.task\ndef f(): ...\n@herd.task\ndef f(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigurationError, match="two different functions are registered as double_in_child:f"):
        load_program(Setting("double_in_child:herd"))
