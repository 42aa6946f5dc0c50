"""Pictures of a flow that other programs read."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

from herdmaster.core.failure import ErrorInfo
from herdmaster.inspection.flow_pictures import to_dot, to_svg
from herdmaster.inspection.flow_seen import StepInfo, StepState

SVG = "{http://www.w3.org/2000/svg}"
STEPS = [
    StepInfo("0", 'fetch "all" <b>\x1b[2J', StepState.DONE),
    StepInfo("1", "parse", StepState.FAILED, ("0",), items={StepState.DONE: 9_997, StepState.FAILED: 3}),
    StepInfo("2", "merge", StepState.BLOCKED, ("1",), waits_for=("1",)),
    StepInfo("3", "notify", StepState.WAITING, ("2",), when="failure", error=ErrorInfo("ValueError")),
]


def test_dot_has_a_node_for_each_step_and_an_edge_for_each_parent() -> None:
    dot = to_dot(STEPS, 'the "report"')
    assert dot.startswith('digraph "the \\"report\\"" {')
    assert re.findall(r"n\d+ -> n\d+(?: \[.*\])?", dot) == ["n0 -> n1", "n1 -> n2", "n2 -> n3 [style=dashed]"]
    assert '"1 parse\\n9,997 done, 3 failed"' in dot
    assert '"0 fetch \\"all\\" <b>\\\\x1b[2J\\ndone"' in dot


def test_svg_is_well_formed_and_within_its_bounds() -> None:
    root = ElementTree.fromstring(to_svg(STEPS, "report"))
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert texts[:4] == ['0 fetch "all" <b>\\x1b[2J', "done", "1 parse", "9,997 done, 3 failed"]
    assert "on failure: waiting" in texts
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [each.attrib for each in root.iter(f"{SVG}rect") if "rx" in each.attrib]
    assert len(boxes) == 5  # the items have a second one behind
    for box in boxes:
        assert 0 <= float(box["x"]) <= float(box["x"]) + float(box["width"]) <= width
        assert 0 <= float(box["y"]) <= float(box["y"]) + float(box["height"]) <= height


def test_boxes_of_a_layer_do_not_overlap() -> None:
    steps = [StepInfo("0", "root", StepState.DONE)]
    steps += [StepInfo(f"{number}", f"f{number}" * number, StepState.DONE, ("0",)) for number in range(1, 9)]
    root = ElementTree.fromstring(to_svg(steps))
    layers: dict[str, list[tuple[float, float]]] = {}
    for each in root.iter(f"{SVG}rect"):
        if "rx" in each.attrib:
            layers.setdefault(each.attrib["y"], []).append((float(each.attrib["x"]), float(each.attrib["width"])))
    assert sorted(map(len, layers.values())) == [1, 8]
    for layer in layers.values():
        layer.sort()
        assert all(x + width <= right for (x, width), (right, _) in itertools.pairwise(layer))


def test_a_picture_of_very_many_different_steps_is_cut() -> None:
    steps = [StepInfo(f"{number}", f"f{number}", StepState.DONE) for number in range(1000)]
    texts = [each.text for each in ElementTree.fromstring(to_svg(steps)).iter(f"{SVG}text")]
    assert texts[-1] == "and 700 more"


def test_a_flow_without_steps_has_a_picture() -> None:
    assert ElementTree.fromstring(to_svg([])).tag == f"{SVG}svg"
