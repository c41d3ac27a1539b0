"""Labels by methods that show no order pass through everything that reads labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitute.cli.main import cli
from constitute.stages.card import card_of
from constitute.store import Store

PROMPTS = [{"id": f"p{n}", "prompt": f"How do I mend kettle number {n}?"} for n in range(6)]


@pytest.mark.parametrize("method", ["likelihood", "rating", "yes_no"])
def test_labels_without_an_order_are_shown_reported_exported_and_attributed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text("\n".join(json.dumps(row) for row in PROMPTS))

    def run(*words: str) -> str:
        done = CliRunner().invoke(cli, [*words, "--run", "run"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    fake = ("--model", "fake", "--set", "engine.kind=fake")
    run("generate", *fake, "--prompts", "prompts.jsonl", "-n", "2")
    sets = ("--set", f"label.method={method}", "--set", "label.principles=2", "--set", "label.min_mass=0")
    said = run("label", "--constitution", "pocket/harmless", *sets)
    assert "this label method shows no order" in said and "order bias" not in said
    with Store.open(Path("run"), readonly=True) as store:
        card = card_of(store)
    assert (card.pairs, card.votes, card.ordered, card.flip_rate.n, card.p_first.n) == (6, 12, 0, 0, 0)
    run("status")
    shown = run("show", "p0/0-1")
    assert "P(A) = " in shown and "A first" not in shown
    (head,) = (line for line in shown.splitlines() if line.startswith("principle"))
    assert head.split() == ["principle", "weight", "P(A)", "mass"]
    run("export")
    run("report")
    page = Path("run/report.html").read_text()
    assert page.count('<th>vote under</th><th class="num">P(A)</th>') == 12 and "A first" not in page
    table = page.split("<th>vote under</th>")[1].split("</table>")[0]
    body = table.split("<tbody>")[1]
    assert table.split("</thead>")[0].count("<th") == 2 and body.count("<td") == 2 * 3
    if method == "likelihood":
        assert body.count("–</td>") == 2, "what was not measured is a dash"
    done = CliRunner().invoke(cli, ["constitution", "attribute", "run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
