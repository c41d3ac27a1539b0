"""docs/labels.md holds every gate once."""

import re

from places import ROOT

from constitute.config import GatesConfig


def test_every_gate_has_a_row():
    text = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| `gates\.` \|.*\n\|---.*\n((?:\|.*\n?)+)", text, flags=re.M)
    rows = [[cell.strip(" `") for cell in line.split("|")[1:3]] for line in table.splitlines()]
    assert rows == [[name, "none"] for name in GatesConfig.model_fields]
    assert GatesConfig() == GatesConfig(min_agreement=None, max_order_flip=None)
