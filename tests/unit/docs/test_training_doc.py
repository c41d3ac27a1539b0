"""docs/training.md holds every training option once, with its default."""

import re

import pytest
from places import ROOT

from constitute.config.imitation import ConditionedConfig, ExpertIterationConfig, QuarkConfig
from constitute.config.train import BestOfNConfig, DPOConfig, GRPOConfig, PPOConfig, RewardConfig, SFTConfig
from constitute.train.ppo.algorithms import ALGORITHMS

TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
CONFIGS = {
    "sft": SFTConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
    "best_of_n": BestOfNConfig,
    "expert_iteration": ExpertIterationConfig,
    "conditioned": ConditionedConfig,
    "quark": QuarkConfig,
    "ppo": PPOConfig,
}


def documented(section):
    """(option, default as written) of every row of the tables headed `train.<section>.`."""
    tables = re.findall(rf"^\| `train\.{section}\.` \|.*\n\|---.*\n((?:\|.*\n?)+)", TEXT, flags=re.M)
    rows = [line for table in tables for line in table.splitlines()]
    return [(cells[1].strip(" `"), cells[2].strip()) for cells in (row.split("|") for row in rows)]


def written(value):
    """A default as the document writes it."""
    if value is None or value == ():
        return "none"
    return str(value).lower() if isinstance(value, bool | str) else float(value)


@pytest.mark.parametrize("section", CONFIGS)
def test_options_and_defaults(section):
    found = documented(section)
    fields = CONFIGS[section].model_fields
    assert sorted(name for name, _ in found) == sorted(fields)
    for name, default in found:
        expected = written(fields[name].default)
        assert (float(default) if isinstance(expected, float) else default) == expected, name


def test_what_grpo_changes_is_all_listed():
    found = dict(documented("grpo"))
    changed = {
        name: field.default
        for name, field in GRPOConfig.model_fields.items()
        if field.default != PPOConfig.model_fields[name].default
    }
    assert set(found) == set(changed)
    for name, default in changed.items():
        assert (float(found[name]) if not isinstance(default, str) else found[name]) == default, name


def test_every_algorithm_has_a_row():
    (table,) = re.findall(r"^\| `advantage=` \|.*\n\|---.*\n((?:\|.*\n?)+)", TEXT, flags=re.M)
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert {row[0]: row[2:] for row in rows} == {
        name: [
            "yes" if one.needs_critic else "no",
            "2 or more" if one.needs_group else "1 or more",
            "in the own target" if one.kl == "own" else f"in the {one.kl}",
        ]
        for name, one in ALGORITHMS.items()
    }


@pytest.mark.parametrize(
    ("name", "kind", "reshard"),
    [("ddp", "MULTI_GPU", None), ("fsdp2", "FSDP", True), ("fsdp2_grads", "FSDP", False)],
)
def test_accelerate_reads_the_example_configurations(name, kind, reshard):
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    folder = ROOT / "examples" / "accelerate"
    found = config_args.load_config_from_file(str(folder / f"{name}.yaml"))
    assert (str(found.distributed_type), found.num_processes) == (f"DistributedType.{kind}", 4)
    assert f"examples/accelerate/{name}.yaml" in TEXT
    if reshard is not None:
        assert found.fsdp_config["fsdp_version"] == 2
        assert found.fsdp_config["fsdp_reshard_after_forward"] is reshard
