"""The guide on monitoring lists the metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

from herdmaster.monitoring.gauges import GAUGES
from herdmaster.monitoring.metrics import Metrics

GUIDE = Path(__file__).parents[2] / "docs/guides/monitoring.md"
_ROW = re.compile(r"^\| `(herd_\w+)` \| (\w+) \| ([\w, ]*)\|", re.MULTILINE)


def _metrics() -> dict[str, tuple[str, str]]:
    """Return the type and the labels of each metric."""
    found = {name: ("gauge", ", ".join(gauge.labels)) for name, gauge in GAUGES.items()}
    for collector in vars(Metrics()).values():
        family = getattr(collector, "_name", None)
        if family is not None:
            kind = collector._type
            name = f"{family}_total" if kind == "counter" else family
            found[name] = (kind, ", ".join(collector._labelnames))
    return found


def test_the_table_has_every_metric_with_its_type_and_its_labels() -> None:
    rows = {name: (kind, labels.strip()) for name, kind, labels in _ROW.findall(GUIDE.read_text())}

    assert len(rows) > 10
    assert rows == _metrics()
