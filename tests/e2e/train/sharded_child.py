"""One process of several small trainings in a row: FOLDER CASE[!]..., each case into FOLDER/<case>/out."""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from train_models import CausalRollouts, tiny_causal, word_tokenizer

from constitute.config.train import DPOConfig, PPOConfig, RewardConfig
from constitute.errors import ConstituteError
from constitute.progress import Silent
from constitute.train.common import fit, shards
from constitute.train.dpo import train_dpo
from constitute.train.ppo import history, setup, update
from constitute.train.ppo import run as ppo
from constitute.train.reward.train import train_reward
from constitute.types import Message, Prompt

END = 2
TEMPLATE = "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %} </s>{% endif %} {% endfor %}"
PPO = {
    "iterations": 3, "batch_size": 7, "epochs": 2, "max_new_tokens": 3, "kl_coef": 0.5, "learning_rate": 3e-3,
    "critic_learning_rate": 1e-2, "missing_eos_penalty": None, "microbatch_tokens": 16,
    "checkpoint_every": 1000,
}  # fmt: skip
# Seven rows make unequal shares, one row leaves the second process with none.
CASES = {
    "separate": {},
    "empty": {"batch_size": 1},
    "minibatches": {"minibatches": 3, "old_logprobs": "engine"},
    "shared": {"critic": "shared", "gradient_checkpointing": True, "minibatches": 2},
    "scored": {},
    "mixed": {"ptx_coef": 0.5, "minibatches": 2},
    "lora": {"critic": "lora", "lora_rank": 2, "minibatches": 2},
    "resumed": {"iterations": 4, "checkpoint_every": 2},
    "whole": {"iterations": 4, "checkpoint_every": 2},
    "thrice": {"iterations": 6, "checkpoint_every": 2},
    "kept": {"iterations": 6, "checkpoint_every": 2, "keep_checkpoints": 2},
    "dies": {},
}
PAIRS = {"epochs": 2, "batch_size": 5, "learning_rate": 1e-3, "microbatch_tokens": 16, "held_out": 0.2}


class Rollouts(CausalRollouts):
    """Says how likely what it sampled was, for the case that asks the engine."""

    def generate_ids(self, prompts, sampling, *, logprobs):
        found = super().generate_ids(prompts, sampling, logprobs=logprobs)
        scores = self.score_ids(prompts, [completion.token_ids for completion in found])
        return [one.model_copy(update={"logprobs": tuple(s)}) for one, s in zip(found, scores, strict=True)]


def start_in(folder: Path, *, tied: bool = False) -> None:
    """A random model with its tokenizer."""
    model = tiny_causal(vocab=3, width=32, layers=2, eos=END)
    if tied:
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(folder)
    words = ["0", "1", "</s>"]
    word_tokenizer(words, eos="</s>", pad="0", template=TEMPLATE).save_pretrained(folder)


def prepare(folder: Path) -> None:
    """Everything the cases read, written before any process starts."""
    start_in(folder / "start")
    start_in(folder / "tied", tied=True)
    rows = [
        {
            "prompt": "0 " * (1 + n % 2), "chosen": "1 " * (1 + n % 4), "rejected": "0 " * (1 + n % 3),
            "chosen_prob": 0.9,
        }
        for n in range(11)
    ]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chat = {"messages": [{"role": "user", "content": "0"}, {"role": "assistant", "content": "1 1"}]}
    (folder / "chats.jsonl").write_text(json.dumps(chat) + "\n")


def ones(prompts, completions):
    """The number of tokens 1."""
    return [float(completion.token_ids.count(1)) for completion in completions]


def die(*_, **__):
    """What a machine that loses power does."""
    os.kill(os.getpid(), signal.SIGKILL)


def elements(tensors) -> int:
    """Numbers held here; of a tensor in parts, those of the own part."""
    return sum(getattr(tensor, "_local_tensor", tensor).numel() for tensor in tensors)


def measured(folder: Path, case: str) -> None:
    """Train, then write down how many weights, moments and reference weights this process holds."""
    kept = []

    def set_up(*arguments):
        kept.append(setup.set_up(*arguments))
        return kept[0]

    ppo.set_up = set_up
    train(folder, case)
    ppo.set_up = setup.set_up
    learner, reference = kept[0].learner, kept[0].reference.args[0]
    moments = [
        state[name] for state in learner.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")
    ]
    held = {
        "weights": elements(learner.model.parameters()),
        "moments": elements(moments),
        "reference": elements(reference.parameters()),
    }
    (folder / case / f"held-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(held))


def train(folder: Path, case: str) -> None:
    """PPO in the manner of `case`."""
    main_process = os.environ.get("RANK", "0") == "0"
    start = folder / ("tied" if case == "shared" else "start")
    changes = CASES[case] | ({"ptx_data": str(folder / "chats.jsonl")} if case == "mixed" else {})
    prompt = Prompt(id="only", messages=(Message(role="user", content="x"),))
    ppo.train_ppo(
        [prompt] if main_process else [], [[END]] if main_process else [], str(start),
        str(folder / "reward" / "out") if case == "scored" else ones, folder / case / "out",
        PPOConfig(**PPO | changes), engine=Rollouts(start, {END}) if main_process else None, seed=0,
        progress=Silent(),
    )  # fmt: skip


def interrupted(module, folder: Path, case: str) -> None:
    """Stop right after the first checkpoint that `module` saves."""
    save = module.save_checkpoint

    def stop(*arguments, **named):
        save(*arguments, **named)
        raise KeyboardInterrupt

    module.save_checkpoint = stop
    with suppress(KeyboardInterrupt):
        run(folder, case)
    module.save_checkpoint = save


def killed(folder: Path, case: str) -> None:
    """Lose the first process when all parts of the second checkpoint are on disk and it has no name yet."""
    begin, saves = shards.begin, []

    def second(place, parts, complete):
        saves.append(place)
        return begin(place, parts, die if complete is not None and len(saves) == 2 else complete)

    shards.begin = second
    run(folder, case)


def run(folder: Path, case: str) -> None:
    """One case."""
    pairs, start, out = folder / "pairs.jsonl", str(folder / "start"), folder / case / "out"
    if case == "reward":
        train_reward(pairs, start, out, RewardConfig(**PAIRS, heads=2), seed=0, progress=Silent())
    elif case.startswith("dpo"):
        config = DPOConfig(**PAIRS, lora_rank=2 if case == "dpo_lora" else 0, checkpoint_every=2)
        train_dpo(pairs, start, out, config, seed=0, progress=Silent())
    elif case == "separate":
        measured(folder, case)
    else:
        if case == "dies" and os.environ["RANK"] == "1":
            update._accumulate = die
        train(folder, case)


if __name__ == "__main__":
    try:
        for name in sys.argv[2:]:
            # CASE! is interrupted, and CASE? killed in a save; both go on where CASE follows.
            if name.endswith("!"):
                interrupted(fit if name.startswith("dpo") else history, Path(sys.argv[1]), name[:-1])
            elif name.endswith("?"):
                killed(Path(sys.argv[1]), name[:-1])
            else:
                run(Path(sys.argv[1]), name)
    except ConstituteError as problem:
        print(f"stopped: {problem}", file=sys.stderr, flush=True)
        sys.exit(5)
