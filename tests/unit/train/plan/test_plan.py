"""Planned bytes beside bytes that PyTorch counted on the CPU, and what is said of what does not fit."""

import json
import subprocess
import sys
import weakref

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from train_models import tiny_causal
from unit.train.common.test_models import lone_team, rollouts_of

from constitute.cli.train.plan import plan as plan_command
from constitute.config import RunConfig
from constitute.errors import UsageError
from constitute.train.common import lora
from constitute.train.common.models import Actor, ActorCritic, zero_value_head
from constitute.train.plan.given import _A_SETTING, METHODS
from constitute.train.plan.parts import GIB, PLANNED
from constitute.train.plan.plan import plan_training
from constitute.train.plan.shapes import open_shape
from constitute.train.plan.speed import Gpu, gpu_of
from constitute.train.ppo.algorithms import ALGORITHMS
from constitute.train.ppo.experience import ScoredBatch, experience
from constitute.train.ppo.update import Learner, update
from constitute.train.preference_losses import LOSSES, UNPAIRED

PROMPT, RESPONSE, ROWS = 24, 40, 16
SIZE = {"width": 96, "layers": 4, "heads": 4, "positions": 128}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "model"
    tiny_causal(512, **SIZE).save_pretrained(path)
    return path


def settings(folder, method="ppo", **changes):
    own = {"microbatch_tokens": ROWS * (PROMPT + RESPONSE), "max_new_tokens": RESPONSE, "epochs": 1}
    return RunConfig.model_validate(
        {
            "model": str(folder),
            "engine": {"rollout_url": "http://127.0.0.1:1"},
            "train": {method: {**own, "batch_size": 2 * ROWS, "kl_coef": 0.0} | changes},
        }
    )


def half_team():
    """One process whose passes are in bfloat16, which a CPU has only in a process of its own."""
    from accelerate import Accelerator

    from constitute.train.common.team import Team

    return Team(Accelerator(mixed_precision="bf16", cpu=True), 0, 1)


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, and the most there were at once."""

    def __init__(self, held):
        super().__init__()
        self.seen, self.now, self.peak = {}, 0, 0
        for tensor in held:
            self.note(tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.note, found)
        return found

    def note(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.seen:
            size = storage.nbytes()
            self.seen[key] = weakref.ref(storage, lambda _: self.gone(key, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def gone(self, key, size):
        del self.seen[key]
        self.now -= size


def measured(config, critic, held=torch.float32):
    """Bytes at the peak of an update of two micro-batches, Adam's state there from an update before.

    `held` is what the base is held in where there are adapters; passes are in bfloat16 where it is.
    """
    policy = tiny_causal(512, **SIZE).eval().to(held)
    trunk = tiny_causal(512, **SIZE, seed=1).base_model.eval().to(held) if critic else None
    model = ActorCritic(Actor(policy), trunk, zero_value_head(SIZE["width"]) if critic else None)
    if config.lora_rank:
        lora.add_adapter(policy, lora.POLICY, config.lora_rank)
        if critic:
            lora.add_adapter(trunk, lora.CRITIC, config.lora_rank)
    groups = [
        [weight for weight in part.parameters() if weight.requires_grad]
        for part in (policy, trunk or nn.Module())
    ]
    if config.gradient_checkpointing:
        model.train()
        for part in (policy, trunk):
            if part is not None:
                part.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([*groups[0], *groups[1]], lr=1e-4, fused=True)
    team = lone_team() if held == torch.float32 else half_team()
    learner = Learner(model, optimizer, team, *groups, 0)
    sequences = [[place % 500 + 3 for place in range(PROMPT + RESPONSE)]] * (2 * ROWS)
    rollouts = rollouts_of(sequences, [PROMPT] * len(sequences))
    nothing = torch.zeros_like(rollouts.mask_BT)
    algorithm = ALGORITHMS["gae" if critic else "rloo"]
    scores = torch.linspace(-1, 1, len(sequences))
    batch = ScoredBatch(
        algorithm, rollouts, scores, nothing.clone(), nothing.clone(), nothing.clone(), None, 0.0, config
    )
    learned = experience(batch)
    update(learner, learned, config, 0)
    states = [value for state in optimizer.state.values() for value in state.values()]
    with Live([*model.parameters(), *states]) as live:
        update(learner, learned, config, 0)
    return live.peak


@pytest.mark.parametrize(
    ("changes", "critic"),
    [
        ({}, True),
        ({"advantage": "rloo", "samples_per_prompt": 2}, False),
        ({"advantage": "rloo", "samples_per_prompt": 2, "gradient_checkpointing": True}, False),
        ({"advantage": "rloo", "samples_per_prompt": 2, "lora_rank": 8}, False),
        ({"lora_rank": 4}, True),
    ],
)
def test_an_update_takes_what_is_planned(folder, changes, critic):
    config = settings(folder, rewards=[{"source": "a:f"}], **changes)
    (plan,) = plan_training(config, ["ppo"], str(folder), Gpu(GIB), prompt=PROMPT, half=False)
    found = measured(config.train.ppo, critic)
    assert plan.phases["update"] == pytest.approx(found, rel=0.10)


def test_moments_and_base_by_hand(folder):
    """A weight has 8 bytes of moments; or 2, and two scales for 256 weights; or none on the GPU."""
    shape, found = open_shape(str(folder)), {}
    for optimizer in ("adamw", "adamw_8bit", "adamw_offload"):
        for rank in (0, 4):
            config = RunConfig.model_validate(
                {"model": str(folder), "train": {"optimizer": optimizer, "reward": {"lora_rank": rank}}}
            )
            found[optimizer, rank] = parts_of(plan_training(config, ["reward"], str(folder), Gpu(GIB))[0])
    assert found["adamw", 0]["model's Adam"] == 8 * shape.trunk
    assert found["adamw_8bit", 0]["model's Adam"] == int(shape.trunk * (2 + 2 * 4 / 256))
    assert "model's Adam" not in found["adamw_offload", 0]
    adapted = found["adamw", 4]
    # The base is frozen, and in bfloat16 as passes are.
    assert adapted["model's weights"] == 2 * shape.trunk
    assert adapted["model's adapters"] == adapted["model's adapters's gradients"] == 4 * 4 * shape.linear
    assert adapted["model's adapters's Adam"] == 8 * 4 * shape.linear
    # No copies of the weights in bfloat16 are kept for the backward, nor inputs for their gradients.
    assert adapted["activations"] < found["adamw", 0]["activations"]


def test_parameters_are_those_of_the_model(folder):
    model = tiny_causal(512, **SIZE)
    shape = open_shape(str(folder))
    assert shape.parameters == sum(weight.numel() for weight in model.parameters())
    assert shape.parameters - shape.trunk == 512 * 96
    # Four layers with four attention matrices of 96 x 96, and three between 96 and 192.
    assert shape.linear == 4 * (4 * 192 + 3 * 288)
    # Adapters as the trainers put them in.
    lora.add_adapter(model, lora.POLICY, 8)
    assert sum(weight.numel() for weight in lora.parameters(model, lora.POLICY)) == 8 * shape.linear


def parts_of(plan):
    return {part.name: part.bytes for part in plan.parts}


def test_parts_by_hand(folder):
    config = settings(folder, critic="shared", kl_coef=0.1)
    config = config.model_copy(update={"engine": config.engine.model_copy(update={"rollout_url": None})})
    (plan,) = plan_training(config, ["ppo"], str(folder), Gpu(GIB), prompt=PROMPT)
    count, trunk = open_shape(str(folder)).parameters, open_shape(str(folder)).trunk
    found = parts_of(plan)
    assert found["policy's weights"] == found["policy's gradients"] == 4 * count
    assert found["policy's Adam"] == 8 * count
    # Frozen weights are in bfloat16 where passes are; the reward model has no output layer.
    assert (found["reference"], found["reward model"]) == (2 * count, 2 * trunk)
    assert found["engine (vLLM)"] == int(0.3 * GIB)
    shape = open_shape(str(folder))
    assert found["copies of weights"] == 2 * max(shape.largest_layer, 512 * 96)
    # Nothing of the critic is there, and gradients are held in no phase but the update.
    assert not any("critic" in name for name in found)
    held = {part.name: part.phases for part in plan.parts}
    assert held["policy's gradients"] == ("update",) and held["copies of weights"] == ("push",)
    # The engine sleeps while the learner works, unless it is told not to.
    assert held["engine (vLLM)"] == ("rollouts", "score", "push")
    awake = config.model_copy(update={"engine": config.engine.model_copy(update={"sleep": False})})
    (plan_awake,) = plan_training(awake, ["ppo"], str(folder), Gpu(GIB), prompt=PROMPT)
    assert plan_awake.phases["update"] - plan.phases["update"] == int(0.3 * GIB)
    for phase, total in plan.phases.items():
        assert total == sum(part.bytes for part in plan.parts if phase in part.phases)


def test_shards_split_what_each_gpu_holds(folder):
    config = settings(folder, critic="shared")
    whole, split = (
        parts_of(plan_training(config, ["ppo"], str(folder), Gpu(GIB), count=4, sharded=sharded)[0])
        for sharded in (False, True)
    )
    layer = open_shape(str(folder)).largest_layer
    assert split["policy's Adam"] * 4 == whole["policy's Adam"]
    # Two layers are whole at a time, in bfloat16: the one in use and the one fetched ahead.
    assert split["policy's weights"] == whole["policy's weights"] // 4 + 2 * 2 * layer


def test_several_gpus_need_a_rollout_server_and_the_plan_says_so(folder):
    words = ["--model", str(folder), "--gpu", "24", "--method", "sft,ppo,grpo"]

    def said(*more):
        done = CliRunner().invoke(
            plan_command, [*words, *more], standalone_mode=False, catch_exceptions=False
        )
        return done.stdout.count(f"start `constitute serve {folder} --rollouts` on another GPU")

    # SFT samples nothing.
    assert said("--gpus", "4") == said("--gpus", "4", "--sharded") == 2
    assert said() == 0
    for setting in ("engine.rollout_url=http://127.0.0.1:8001", "engine.kind=transformers"):
        assert said("--gpus", "4", "--set", setting) == 0
    found = CliRunner().invoke(plan_command, [*words, "--gpus", "4", "--json"], standalone_mode=False).stdout
    notes = [json.loads(line)["note"] for line in found.splitlines()]
    assert notes[0] == "" and notes[1].startswith("4 GPUs are 4 training processes, and vLLM cannot run")


def test_a_models_configuration_or_folder_is_planned_for_with_default_settings(folder, tmp_path):
    def told(*words):
        done = CliRunner().invoke(plan_command, ["--gpu", "24", "--json", "--method", "sft", *words])
        return str(done.exception) if isinstance(done.exception, UsageError) else json.loads(done.stdout)

    by_name = told("--model", str(folder))
    assert told(str(folder / "config.json")) == told(str(folder)) == by_name
    assert "give one of them" in told(str(folder), "--model", "pocket")
    other = tmp_path / "big.json"
    other.write_text((folder / "config.json").read_text())
    assert "is not called config.json; put it under that name" in told(str(other))
    assert "is a folder without config.json; give run.yaml, or a model's" in told(str(tmp_path))
    run = tmp_path / "run.json"
    run.write_text(json.dumps({"model": str(folder)}))
    assert told(str(run)) == by_name


def test_names_are_checked_before_torch_is_loaded():
    """In a process of its own, as this one has torch."""
    code = (
        "import sys\n"
        "from constitute.cli.main import cli\n"
        "try: cli(['train', 'plan', '--gpu', '24', '--method', 'kto'], standalone_mode=False)\n"
        "except Exception as problem: print(problem)\n"
        "print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "no such trainer to plan for: 'kto'; it is a setting of another: give --method dpo --set "
        "train.dpo.loss=kto",
        "False",
    ]
    assert tuple(PLANNED) == METHODS
    assert set(_A_SETTING) == {*LOSSES, *UNPAIRED, *ALGORITHMS} - {"sigmoid", "gae", "grpo"}


def test_moments_elsewhere_are_named_where_they_make_it_fit(folder):
    config = RunConfig.model_validate({"model": str(folder), "train": {"reward": {"microbatch_tokens": 64}}})
    whole = plan_training(config, ["reward"], str(folder), Gpu(4 * GIB))[0].most
    shape = open_shape(str(folder))
    (plan,) = plan_training(config, ["reward"], str(folder), Gpu(whole - 5 * shape.trunk))
    assert not plan.fits and ("train.optimizer=adamw_8bit",) in plan.changes
    (sharded,) = plan_training(
        config, ["reward"], str(folder), Gpu(whole - 9 * shape.trunk), count=2, sharded=True
    )
    assert not any("train.optimizer" in change for changes in sharded.changes for change in changes)


def test_sharded_weights_are_named_where_they_make_it_fit(folder):
    config = RunConfig.model_validate({"model": str(folder), "train": {"sft": {"max_length": 64}}})

    def most(sharded):
        (plan,) = plan_training(config, ["sft"], str(folder), Gpu(9 * GIB), count=4, sharded=sharded)
        return plan.most

    whole, split = most(False), most(True)
    between = str((whole + split) / 2 / GIB)
    words = ["--model", str(folder), "--method", "sft", "--set", "train.sft.max_length=64", "--gpu", between]

    def said(*more):
        return CliRunner().invoke(plan_command, [*words, *more], standalone_mode=False).stdout

    assert "GiB; it does with --sharded or --set train.sft." in said("--gpus", "4")
    assert "--sharded" not in said() and "fits: " in said("--gpus", "4", "--sharded")
    # What refuses split weights is not proposed with them.
    eight = config.model_copy(update={"train": config.train.model_copy(update={"optimizer": "adamw_8bit"})})
    for gpu in (Gpu(whole // 2), Gpu(split)):
        (plan,) = plan_training(eight, ["sft"], str(folder), gpu, count=4)
        assert not any("--sharded" in changes for changes in plan.changes)


def test_what_does_not_fit_names_the_nearest_settings_that_do(folder):
    config = settings(folder, microbatch_tokens=8192)
    big, small = Gpu(100 * GIB), Gpu(int(1.7 * GIB))
    assert plan_training(config, ["ppo"], str(folder), big)[0].changes == ()
    (plan,) = plan_training(config, ["ppo"], str(folder), small)
    assert not plan.fits and plan.changes
    for chosen in plan.changes:
        changed = settings(folder, microbatch_tokens=8192)
        values = changed.model_dump(mode="json")
        for each in chosen:
            key, _, value = each.removeprefix("train.ppo.").partition("=")
            values["train"]["ppo"][key] = value if value == "shared" else json.loads(value)
        assert plan_training(RunConfig.model_validate(values), ["ppo"], str(folder), small)[0].fits
    (none,) = plan_training(config, ["ppo"], str(folder), Gpu(GIB))
    assert not none.fits and none.changes == ()


def test_seconds_by_hand(folder):
    config = settings(folder, "grpo", advantage="grpo", samples_per_prompt=2)
    (plan,) = plan_training(config, ["grpo"], str(folder), Gpu(GIB, 1e12, 1e11), prompt=PROMPT)
    shape = open_shape(str(folder))
    tokens = 2 * ROWS * (PROMPT + RESPONSE)
    # No reference, no critic, no pass before the update: the reward model, the update, and the rollouts.
    passes = tokens * (2 * shape.trunk + 6 * shape.parameters + 2 * shape.parameters) / 0.4e12
    assert plan.seconds == pytest.approx(passes + RESPONSE * 2 * shape.parameters / 0.6e11, rel=1e-6)
    assert plan_training(config, ["grpo"], str(folder), Gpu(GIB))[0].seconds is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("h10", "no such GPU: 'h10'; did you mean 'h100'?, or give its memory in GiB, such as 24"),
        ("-3", "there is no GPU of -3 GiB; give the memory of one, such as 24"),
        ("nan", "there is no GPU of nan GiB; give the memory of one, such as 24"),
    ],
)
def test_a_gpu_that_is_not_known_is_told(given, says):
    with pytest.raises(UsageError) as told:
        gpu_of(given)
    assert str(told.value) == says


def test_gpus_by_name_or_size():
    assert gpu_of("24").memory == 24 * GIB and gpu_of("H100").memory == gpu_of("h100").memory


def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        plan_training(RunConfig(), ["sft"], str(tmp_path / "nowhere"), Gpu(GIB))
    with pytest.raises(UsageError, match="no such trainer to plan for: 'pp'; did you mean 'ppo'"):
        plan_training(RunConfig(), ["pp"], str(tmp_path), Gpu(GIB))
