"""PPO on the random-walks task of trlx: find the shortest way to the goal of a directed graph.

21 nodes named a to u; a walk holds at most 10 nodes and ends at node a. Its optimality is (10 - nodes of the
walk) / (10 - nodes of the shortest walk), 0 where an edge does not exist or the goal is not reached.
"""

import json
import math

import numpy as np
import pytest
import torch
from train_models import CausalRollouts, word_tokenizer

from constitute.config.train import PPOConfig
from constitute.progress import Silent
from constitute.train.ppo.run import train_ppo
from constitute.types import Message, Prompt, SamplingParams

NODES, GOAL, LONGEST, WALKS = 21, 0, 10, 1000
END, PAD = 21, 22
SHORTEST = [3, 4, 2, 4, 3, 5, 5, 3, 3, 3, 4, 4, 2, 5, 4, 4, 4, 3, 4, 4]
WORDS = [*(chr(ord("a") + node) for node in range(NODES)), "</s>", "<pad>"]
PROMPTS = [
    Prompt(id=WORDS[node], messages=(Message(role="user", content=WORDS[node]),)) for node in range(1, NODES)
]


def graph_and_walks(seed=1000):
    """The adjacency matrix and 1,000 random walks, drawn as trlx draws them."""
    rng = np.random.RandomState(seed)
    while True:
        edges = rng.rand(NODES, NODES) > 0.9
        np.fill_diagonal(edges, 0)
        if np.all(edges.sum(1)):
            break
    edges[GOAL] = 0
    edges[GOAL, GOAL] = 1
    walks = []
    for _ in range(WALKS):
        node = GOAL
        while node == GOAL:
            node = rng.randint(NODES)
        walk = [node]
        while len(walk) < LONGEST and walk[-1] != GOAL:
            walk.append(int(rng.choice(np.nonzero(edges[walk[-1]])[0])))
        walks.append(walk)
    return edges, walks


EDGES, RANDOM_WALKS = graph_and_walks()


def shortest():
    """Nodes on the shortest way from each node to the goal, the ends counted, by breadth first."""
    found, reach = {GOAL: 1}, [GOAL]
    for node in reach:
        for before in np.nonzero(EDGES[:, node])[0].tolist():
            if before not in found:
                found[before] = found[node] + 1
                reach.append(before)
    return [found[node] for node in range(1, NODES)]


def optimality(walk):
    """What a walk is worth; what comes after the goal does not count."""
    for place, node in enumerate(walk):
        if place and (node >= NODES or not EDGES[walk[place - 1], node]):
            return 0.0
        if node == GOAL:
            return (LONGEST - place - 1) / (LONGEST - SHORTEST[walk[0] - 1])
    return 0.0


def random_walk_optimality():
    """E[optimality] of random walks from a uniform start, exactly: chances of first reaching the goal."""
    step = EDGES / EDGES.sum(1, keepdims=True)
    total = 0.0
    for start in range(1, NODES):
        here = np.eye(NODES)[start]
        for nodes in range(2, LONGEST + 1):
            here = here @ step
            total += here[GOAL] * (LONGEST - nodes) / (LONGEST - SHORTEST[start - 1])
            here[GOAL] = 0.0
    return total / (NODES - 1)


def reward(prompts, completions):
    return [
        optimality([WORDS.index(prompt.id), *completion.token_ids])
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def pretrained(folder, epochs=20, batch=100):
    """A GPT-2 of 6 layers by 144, taught the walks as trlx's published start was."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(WORDS), n_positions=16, n_embd=144, n_layer=6, n_head=12, bos_token_id=None,
            eos_token_id=END, pad_token_id=PAD, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip
    ended = [[*walk, END] if walk[-1] == GOAL else walk for walk in RANDOM_WALKS]
    ids = torch.tensor([[*walk, *[PAD] * (LONGEST + 1 - len(walk))] for walk in ended])
    labels = ids.masked_fill(ids == PAD, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    steps = epochs * WALKS // batch
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        rows = torch.randint(WALKS, (batch,))
        model(ids[rows], labels=labels[rows]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    word_tokenizer(WORDS, eos="</s>", pad="<pad>").save_pretrained(folder)
    return folder


def measured(folder, each=100):
    """Mean optimality of sampled walks and half the width of its 95 % interval."""
    rows = [node for node in range(1, NODES) for _ in range(each)]
    sampling = SamplingParams(max_tokens=LONGEST - 1, temperature=1.0, seed=9)
    completions = CausalRollouts(folder, {END}).generate_ids(
        [[node] for node in rows], sampling, logprobs=False
    )
    found = np.array(reward([PROMPTS[node - 1] for node in rows], completions))
    return found.mean(), 1.96 * found.std() / math.sqrt(len(found))


def learn(start, out, seed, **changes):
    """The published settings: 140 rollouts a phase in 2 minibatches, 4 passes, 3e-4, no KL, shared trunk."""
    settings = {
        "iterations": 20, "batch_size": 140, "minibatches": 2, "epochs": 4, "max_new_tokens": LONGEST - 1,
        "learning_rate": 3e-4, "critic_learning_rate": 3e-4, "schedule": "constant", "critic": "shared",
        "value_coef": 1.2, "kl_coef": 0.0, "gamma": 1.0, "lam": 0.95, "clip": 0.2, "value_clip": 0.2,
        "missing_eos_penalty": None, "checkpoint_every": 1000,
    }  # fmt: skip
    ids = [[node] for node in range(1, NODES)]
    train_ppo(
        PROMPTS, ids, str(start), reward, out, PPOConfig(**settings | changes),
        engine=CausalRollouts(start, {END}), seed=seed, progress=Silent(),
    )  # fmt: skip
    return [json.loads(line)["reward"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_graph_is_the_published_one():
    assert EDGES[1:].sum() + EDGES[GOAL, 1:].sum() == 51 and EDGES.sum() == 52
    assert shortest() == SHORTEST
    assert random_walk_optimality() == pytest.approx(0.3462, abs=5e-5)
    assert sum(map(optimality, RANDOM_WALKS)) / WALKS == pytest.approx(0.3515, abs=5e-5)
    assert sum(walk[-1] == GOAL for walk in RANDOM_WALKS) == 560


def test_optimality_by_hand():
    start = SHORTEST.index(2) + 1
    assert EDGES[start, GOAL]
    assert optimality([start, GOAL]) == 1.0
    assert optimality([start, GOAL, END]) == optimality([start, GOAL, 5, 7]) == 1.0
    missing = int(np.nonzero(EDGES[start] == 0)[0][-1])
    assert optimality([start, missing, GOAL]) == optimality([start, END]) == optimality([start]) == 0.0


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ppo_finds_the_shortest_ways(tmp_path):
    """60 phases in place of the published 20, where batches score 0.92 to 0.94; a rate that falls to 0."""
    start = pretrained(tmp_path / "start")
    before, _ = measured(start)
    assert before == pytest.approx(random_walk_optimality(), abs=0.08)
    for seed in range(4):
        out = tmp_path / str(seed)
        curve = learn(start, out, seed, iterations=60, schedule="linear")
        after, half = measured(out)
        print(f"seed {seed}: {before:.3f} -> {after:.3f} +- {half:.3f}, phase 20 {curve[19]:.3f}")
        assert after >= 0.95
