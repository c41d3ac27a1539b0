"""N shards are one run: every row once, byte for byte, and what is missing or twice is refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scripted import constitution, prompt

from constitute.cli.main import cli
from constitute.config import ExportConfig, RunConfig, Shard, load_config
from constitute.constitution.write import to_yaml
from constitute.data.export import export_run
from constitute.errors import RunMismatch, UsageError
from constitute.pipeline import run_stages
from constitute.pipeline.forecast import forecast
from constitute.pipeline.merge import merge_runs
from constitute.store import Store
from constitute.types import Comparison, Outcome

NAMES = [f"p{at}" for at in range(11)]
CHAIN = ["generate", "revise", "filter", "label"]


def config(folder: Path, name: str, shard: str = "", *sets: str) -> RunConfig:
    path = folder / "c.yaml"
    path.write_text(to_yaml(constitution()))
    (folder / "refusals.txt").write_text("stay\nnotes\n")
    own = [f"constitution={path}", f"run={folder / name}", "generate.n=2", "model=m", "engine.kind=fake"]
    own += ["chain=[generate, revise, filter, label]", "filter.use=[refusal]"]
    own.append(f"filter.refusals={folder / 'refusals.txt'}")
    own += ["label.pairs=both", "generate.max_tokens=24"]
    return load_config(None, [*own, *([f"shard={shard}"] if shard else []), *sets])


def run(folder: Path, name: str, shard: str = "", *sets: str, names: Sequence[str] = NAMES) -> Path:
    """All stages; some rows are cut and fail, and some abstain in the filter."""
    run_stages(config(folder, name, shard, *sets), CHAIN, prompts=[prompt(each) for each in names])
    return folder / name


def dump(folder: Path) -> list[tuple[object, ...]]:
    """Every byte of every row."""
    with Store.open(folder, readonly=True) as store:
        return store.read("SELECT * FROM outcomes ORDER BY stage, position, row_id")


def exports(folder: Path, out: Path) -> dict[str, bytes]:
    export_run(folder, ExportConfig(near_duplicates=0.7), kinds=("sft", "preferences"), out=out)
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix == ".jsonl"}


@given(of=st.integers(1, 12), total=st.integers(0, 60))
def test_shards_are_balanced_and_hold_every_place_once(of: int, total: int) -> None:
    parts = [Shard(index=index, of=of).places(total) for index in range(1, of + 1)]
    assert sorted(place for part in parts for place in part) == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all(Shard(index=at, of=of).takes(place) for at, part in enumerate(parts, 1) for place in part)


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "1/0", "-1/4", "1/4/2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"a shard is written i/N with i from 1 to N, such as 2/4"):
        load_config(None, [f"shard='{text}'"])


@pytest.mark.parametrize("of", [2, 3, 13])
def test_merged_shards_are_the_unsharded_run_byte_for_byte(tmp_path: Path, of: int) -> None:
    """13 shards of 11 prompts: the last two have none."""
    whole = run(tmp_path, "whole")
    shards = [run(tmp_path, f"s{at}", f"{at}/{of}") for at in range(of, 0, -1)]
    done = merge_runs(shards, tmp_path / "out")
    assert done.shards == of and not done.warnings
    assert dump(tmp_path / "out") == dump(whole)
    with Store.open(whole, readonly=True) as store:
        ended = {stage: store.counts(stage) for stage in CHAIN}
    assert ended["generate"]["failed"] > 0 and ended["filter"]["abstain"] > 0 and ended["label"]["ok"] > 0
    assert done.counts == ended
    files = exports(tmp_path / "out", tmp_path / "export-out")
    assert files == exports(whole, tmp_path / "export-whole") and all(files.values())
    # The merged run is a plain one: the unsharded command finds nothing to do.
    again = load_config(tmp_path / "out" / "config.yaml")
    assert again.shard is None
    counts = run_stages(again, CHAIN, prompts=[prompt(each) for each in NAMES])
    assert sum(count.asked for count in counts.values()) == 0


def test_stages_one_by_one_and_a_limit_of_prompts(tmp_path: Path) -> None:
    """Stage by stage, on the first 7 prompts; later stages take the shard from the run directory."""
    shards = []
    for at in (1, 2):
        own = config(tmp_path, f"s{at}", f"{at}/2", "limit=7")
        run_stages(own, ["generate"], prompts=[prompt(each) for each in NAMES])
        kept = load_config(tmp_path / f"s{at}" / "config.yaml")
        assert str(kept.shard) == f"{at}/2"
        for stage in CHAIN[1:]:
            run_stages(kept, [stage])
        shards.append(tmp_path / f"s{at}")
    merge_runs(shards, tmp_path / "out")
    whole = run(tmp_path, "whole", "", "limit=7")
    assert dump(tmp_path / "out") == dump(whole)
    with pytest.raises(UsageError, match="one shard does not know which are the first 3 of all"):
        run_stages(load_config(shards[0] / "config.yaml", ["limit=3"]), ["revise"])


def test_a_generated_run_is_revised_in_shards_from_copies(tmp_path: Path) -> None:
    for name in ("whole", "s1", "s2"):
        run_stages(config(tmp_path, name), ["generate"], prompts=[prompt(each) for each in NAMES])
    run_stages(config(tmp_path, "whole"), CHAIN[1:])
    for at in (1, 2):
        counts = run_stages(config(tmp_path, f"s{at}", f"{at}/2"), CHAIN[1:])
        assert 0 < counts["revise"].total < 12
    merge_runs([tmp_path / "s1", tmp_path / "s2"], tmp_path / "out")
    assert dump(tmp_path / "out") == dump(tmp_path / "whole")


def test_pairs_of_ones_own_are_cut_into_shards(tmp_path: Path) -> None:
    pairs = [Comparison(id=f"q{at}", prompt=prompt(f"x{at}"), a="yes", b="no") for at in range(7)]
    for name, shard in (("whole", ""), ("s1", "1/3"), ("s2", "2/3"), ("s3", "3/3")):
        counts = run_stages(config(tmp_path, name, shard), ["label"], pairs=pairs)
        assert counts["label"].total == {"": 7, "1/3": 3}.get(shard, 2)
    merge_runs([tmp_path / f"s{at}" for at in (3, 1, 2)], tmp_path / "out")
    assert dump(tmp_path / "out") == dump(tmp_path / "whole")


def test_shards_that_are_not_one_run_are_refused_by_name(tmp_path: Path) -> None:
    one, two, three = (run(tmp_path, f"s{at}", f"{at}/3") for at in (1, 2, 3))
    out = tmp_path / "out"
    for runs, words in (
        ([one, three], r"1 of 3 shards are missing: 2/3; give the directories of all"),
        (
            [one, two, three, run(tmp_path, "b2", "2/3")],
            r"b2 and .*s2 are both shard 2/3; give each shard once",
        ),
        ([one, run(tmp_path, "h2", "2/2")], r"h2 is shard 2/2 and .*s1 is shard 1/3; only shards of one"),
        ([one, two, run(tmp_path, "m3", "3/3", names=NAMES[:9])], r"different input \(9 and 11 rows\)"),
        ([one, two, run(tmp_path, "plain", names=["x"])], r"plain has rows without --shard of generate"),
    ):
        with pytest.raises(RunMismatch, match=words):
            merge_runs(runs, out)
    run_stages(config(tmp_path, "g3", "3/3"), ["generate"], prompts=[prompt(each) for each in NAMES])
    with pytest.raises(RunMismatch, match=r"g3 has no rows of revise, and other runs are shards of it"):
        merge_runs([one, two, tmp_path / "g3"], out)
    with Store.open(three) as store:
        store.put_meta("unfinished:label", {"rows": 40})
    with pytest.raises(
        RunMismatch, match=r"s3 is shard 3/3 and not finished \(label: \d+ of 40 rows, unfini"
    ):
        merge_runs([one, two, three], out)
    with Store.open(three) as store:
        store.put_meta("unfinished:label", False)
        store.put_outcome("revise", Outcome(row_id="p0/9", position=9, status="failed", reason="x"))
    with pytest.raises(RunMismatch, match=r"s3 is shard 3/3 and holds revise rows of other shards: p0/9"):
        merge_runs([one, two, three], out)
    with Store.open(two) as store:
        store.write("DELETE FROM outcomes WHERE row_id LIKE 'p1/%'")
    with pytest.raises(RunMismatch, match=r"s2 is shard 2/3 and holds generate rows of 3 of its 4 inputs"):
        merge_runs([one, two, run(tmp_path, "c3", "3/3")], out)
    assert not out.exists()


def test_a_run_directory_stays_the_shard_it_began_as(tmp_path: Path) -> None:
    run(tmp_path, "s1", "1/3")
    run(tmp_path, "plain")
    with pytest.raises(RunMismatch, match=r"holds shard 1/3 of generate, and this command gives --shard 2/3"):
        run(tmp_path, "s1", "2/3")
    with pytest.raises(RunMismatch, match=r"holds shard 1/3 of generate, and this command gives none"):
        run(tmp_path, "s1")
    with pytest.raises(RunMismatch, match=r"generate rows of a run without --shard"):
        run(tmp_path, "plain", "1/3")
    with pytest.raises(RunMismatch, match=r"its first 11 rows have changed or moved"):
        run(tmp_path, "s1", "1/3", names=[*NAMES[1:], NAMES[0]])
    # Prompts at the end move no other one: the shards of the longer input are the longer run.
    more = [*NAMES, "q1", "q2", "q3"]
    for at in (1, 2, 3):
        run(tmp_path, f"s{at}", f"{at}/3", names=more)
    merge_runs([tmp_path / f"s{at}" for at in (1, 2, 3)], tmp_path / "out")
    assert dump(tmp_path / "out") == dump(run(tmp_path, "longer", names=more))


def test_runs_of_different_days_are_merged_with_a_warning(tmp_path: Path) -> None:
    parts = [run(tmp_path, f"s{at}", f"{at}/2", f"engine.date=2026-01-0{at}") for at in (1, 2)]
    (said,) = merge_runs(parts, tmp_path / "out").warnings
    assert "2026-01-01" in said and "2026-01-02" in said and "engine.date" in said


def test_plan_counts_a_shards_own_rows(tmp_path: Path) -> None:
    prompts = [prompt(each) for each in NAMES]
    parts = [forecast(config(tmp_path, "none", f"{at}/3"), prompts) for at in (1, 2, 3)]
    assert [part.prompts for part in parts] == [4, 4, 3]
    whole = forecast(config(tmp_path, "none"), prompts)
    assert sum(part.total("requests") for part in parts) == whole.total("requests") > 0
    run(tmp_path, "s1", "1/3")
    assert forecast(config(tmp_path, "s1", "1/3"), prompts).total("requests") == 0


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Question {n}?"}) + "\n" for n in range(9))
    )
    (tmp_path / "c.yaml").write_text(to_yaml(constitution()))
    (tmp_path / "run.yaml").write_text(
        "model: m\nconstitution: c.yaml\nprompts: p.jsonl\nengine: {kind: fake}\n"
        "generate: {n: 2, max_tokens: 64}\nrevise: {max_tokens: 64}\n"
    )

    def constitute(*words: object) -> str:
        done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
        assert (done.exception, done.return_value or 0) == (None, 0), done.output
        return done.output

    file, folders = tmp_path / "run.yaml", [tmp_path / "1", tmp_path / "2"]
    for at, folder in enumerate(folders, 1):
        constitute("run", file, "--shard", f"{at}/2", "--run", folder)
    assert "all 2 shards are there, each row once" in constitute("merge", *folders, "--out", tmp_path / "out")
    constitute("run", file, "--until", "data", "--run", tmp_path / "whole")
    assert dump(tmp_path / "out") == dump(tmp_path / "whole")
    planned = constitute("plan", file, "--shard", "1/2", "--run", tmp_path / "new").splitlines()
    assert planned[1].split()[:2] == ["generate", "10"]
    with pytest.raises(UsageError, match="give --until data, merge the shards"):
        constitute_until = ["run", str(file), "--shard", "1/2", "--until", "export"]
        CliRunner().invoke(cli, constitute_until, standalone_mode=False, catch_exceptions=False)
