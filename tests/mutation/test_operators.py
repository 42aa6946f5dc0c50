import pytest

pytest.importorskip("libcst", reason="`make mutants` installs it")
pytest.importorskip("mutmut", reason="`make mutants` installs it")

from mutation.operators import Lines, mutations


def changed(source: str) -> list[str]:
    """Every mutant of this module, as the lines that differ."""
    before = source.splitlines()
    mutants = [mutation.code().splitlines() for mutation in mutations(source)]
    return [line.strip() for mutant in mutants for line in mutant if line not in before]


def test_comparisons_numbers_and_conditions_are_changed() -> None:
    mutants = changed("def f(x):\n    if x < 2:\n        return x\n")

    assert "if x <= 2:" in mutants
    assert "if x < 3:" in mutants
    assert "if not (x < 2):" in mutants
    assert "return None" in mutants


def test_a_statement_is_left_out() -> None:
    assert "pass" in changed("async def f(x):\n    await x.stop()\n")
    assert "pass" in changed("def f(x, y):\n    del x[y]\n")


@pytest.mark.parametrize(
    "source",
    [
        '"""A module."""\n',
        'def f(x: "int" = ..., *y: bool) -> list[int]:\n    """Return it."""\n',
        "def f(log, x):\n    log.warning('one', x + 1)\n",
        "def f(log, x):\n    if_debug = log.isEnabledFor\n    log.debug(f'{x + 1}')\n".replace(
            "    if_debug = log.isEnabledFor\n", ""
        ),
        "class A:\n    __slots__ = ('a', 'b')\n\n    def __repr__(self):\n        return str(1 + 2)\n",
        "@decorated(slots=True)\nclass A(Base, frozen=True): ...\n",
        "def f(x):\n    assert x == 1\n",
        "Names = dict[str, int]\n",
        "R = TypeVar('R')\n",
        "if TYPE_CHECKING:\n    x = 1\n",
        "import a\nfrom b import c\n",
    ],
)
def test_what_no_test_should_notice_is_left_alone(source: str) -> None:
    assert changed(source) == []


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("x = False\n", ["x = True"]),
        ("def f():\n    return False\n", ["return True"]),
        ("x: T | None = None\n", ["x: T | None = 'XXXX'"]),
        ("x[y] = None\n", []),
    ],
)
def test_no_false_value_takes_the_place_of_another(source: str, mutants: list[str]) -> None:
    assert [line.replace('"', "'") for line in changed(source)] == mutants


def test_what_zip_states_is_left_alone_and_what_other_calls_say_is_not() -> None:
    assert not any("strict=False" in line or line == "zip(a, b, )" for line in changed("zip(a, b, strict=True)\n"))
    assert "convert(a, strict=True)" in changed("convert(a, strict=False)\n")


def test_texts_for_people_are_left_alone_and_words_are_not() -> None:
    assert changed("def f():\n    raise ValueError('it is too large')\n") == []
    assert "return 'XXdoneXX'" in changed("def f():\n    return 'done'\n")


def test_a_mutation_knows_its_statement_and_its_function() -> None:
    source = "x = 1\n\n\ndef f(a):\n    return g(\n        a + 1,\n    )\n"

    places = {(mutation.kind, mutation.line): mutation for mutation in mutations(source)}

    assert places["number", 1].function is None
    assert places["number", 6].statement == Lines(5, 7)
    assert places["number", 6].function == Lines(4, 7)


def test_a_condition_reaches_no_further_than_its_own_lines() -> None:
    (condition,) = [each for each in mutations("def f(a):\n    if a:\n        g()\n") if each.kind == "condition"]

    assert condition.statement == Lines(2, 2)
