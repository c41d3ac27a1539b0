"""Pair schemes and adaptive principles on the command line: contrast, label, plan, status, show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted import constitution

from constitute.cli.errors import run_and_exit
from constitute.cli.main import cli
from constitute.constitution.write import to_yaml

FAKE = "--model m --set engine.kind=fake"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Call the command line in a folder with `c.yaml` and `p.jsonl`; gives (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    names = ("brief", "calm", "fair", "kind", "safe", "true")
    Path("c.yaml").write_text(to_yaml(constitution(*names)), encoding="utf-8")
    lines = [json.dumps({"id": f"p{n}", "prompt": f"Question {n}?"}) + "\n" for n in range(8)]
    Path("p.jsonl").write_text("".join(lines), encoding="utf-8")

    def call(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["constitute", *line.split()])
        code = run_and_exit(cli)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def test_contrast_takes_the_place_of_generate(run) -> None:  # type: ignore[no-untyped-def]
    chain = "--set chain=[contrast,label] --set label.pairs=contrast"
    code, out, err = run(f"contrast {FAKE} --constitution c.yaml --prompts p.jsonl -n 4 {chain}")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["contrast", "32", "32"])
    assert err.splitlines()[-1] == "next: constitute label --run run"
    code, out, _ = run("label")
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["label", "16", "16"])
    assert "on the side of how pairs were made" in out and "n = 16)" in out
    _, out, _ = run("show p0/0-1")
    assert ", for " in out and ", against " in out
    code, _, err = run(f"contrast {FAKE} --constitution c.yaml --prompts p.jsonl -n 3 --run odd {chain}")
    assert code == 2 and "contrast.n" in err


def test_adaptive_principles_in_plan_label_status_and_show(run) -> None:  # type: ignore[no-untyped-def]
    Path("run.yaml").write_text(
        "model: m\nconstitution: c.yaml\nprompts: p.jsonl\nengine: {kind: fake}\nchain: [generate, label]\n"
        "generate: {n: 2}\nlabel: {principles: all, adaptive: 2, adaptive_margin: 0.02}\n",
        encoding="utf-8",
    )
    code, _, err = run("plan run.yaml")
    # 16 responses; 8 pairs x 2 principles x 2 orders, or x 6.
    assert (
        code == 0
        and "between 48 requests, where the first principles agree on every pair, and the 112" in err
    )
    run("generate --config run.yaml --prompts p.jsonl")
    code, out, _ = run("label --json")
    card = json.loads(out.splitlines()[-1])["label_card"]["first_asked"]
    assert card["voters"] == 8 * 6 and card["settled"]["n"] == 8
    settled = round(card["settled"]["value"] * 8)
    assert card["votes"] == settled * 2 + (8 - settled) * 6 and 0 < settled < 8
    _, out, _ = run("status")
    assert f"{card['votes']} of 48" in out and "settled by the principles asked first" in out
    _, out, _ = run("show p0/0-1")
    assert "of 6 principles asked" in out
