"""A map that need not fit in memory behaves as a dict."""

from __future__ import annotations

from constitute.store.spill import SpilledMap


def test_it_is_a_map_and_the_first_text_stays() -> None:
    found = SpilledMap()
    assert found.get("a") is None
    assert [found.add("a", "1"), found.add("a", "2"), found.add("ä ", "")] == [True, False, True]
    assert (found.get("a"), found.get("ä "), found.get("b")) == ("1", "", None)
    found.put("a", "3")
    assert found.get("a") == "3"
