"""What a policy is rewarded by: reading sources, calling Python functions, and how each goes wrong."""

import math
from importlib import import_module
from itertools import count

import pytest

pytest.importorskip("torch")

from registry_examples import add_module, example

from constitute.config import RunConfig, load_config
from constitute.config.ppo import RewardSource
from constitute.errors import DataError, UsageError
from constitute.train.rewards.parts import SourceKind, as_parts
from constitute.train.rewards.sources import KINDS, kind_of, open_rewards, parse_reward, used_rewards
from constitute.train.rewards.welfare import Welfare, total_rewards
from constitute.types import Completion, Message, Prompt

PROMPTS = [Prompt(id=name, messages=(Message(role="user", content="ask"),)) for name in ("one", "two")]
COMPLETIONS = [Completion(text="a b c"), Completion(text="a")]
_NUMBERS = count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of a fresh name into the working directory; returns the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))

    def write(text):
        name = f"rewards_of_test_{next(_NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    return write


def scores(given, config=None):
    """Each part's name and its values of the two completions."""
    with open_rewards(config or RunConfig(), given) as parts:
        return {part.name: part.source(PROMPTS, COMPLETIONS) for part in parts}


@pytest.mark.parametrize(
    ("text", "source", "weight"),
    [
        ("judge", "judge", 1.0),
        ("0.5*judge", "judge", 0.5),
        ("0 * ./reward", "./reward", 0.0),
        ("-1e-2*mine:f", "mine:f", -0.01),
        ("2*http://127.0.0.1:5000/get_reward?x=a*b", "http://127.0.0.1:5000/get_reward?x=a*b", 2.0),
        ("http://127.0.0.1:5000/a*b", "http://127.0.0.1:5000/a*b", 1.0),
    ],
)
def test_a_source_and_its_weight(text, source, weight):
    assert parse_reward(text) == RewardSource(source=source, weight=weight)


@pytest.mark.parametrize("text", ["much*judge", "nan*judge", "inf*judge", "", "2*"])
def test_a_weight_that_is_no_number(text):
    with pytest.raises(UsageError, match="WEIGHT"):
        parse_reward(text)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("judge", "judge"),
        ("runs/mine/reward/", "reward"),
        ("org/model-rm", "model-rm"),
        ("pack.mine:Rules.brevity", "Rules.brevity"),
        ("https://rm.local:5000/get_reward", "rm.local:5000"),
    ],
)
def test_names_come_from_sources(source, name):
    assert kind_of(source).name(source) == name


def test_the_command_line_goes_before_the_configuration():
    config = load_config(None, ["train.ppo.rewards=[{source: 'a:f', weight: 2, name: short}]"])
    own = config.train.ppo.rewards
    assert used_rewards(own) == (RewardSource(source="a:f", weight=2.0, name="short"),)
    assert used_rewards("b:g") == (RewardSource(source="b:g", name="g"),)
    given = used_rewards(("x:f", "y:f", RewardSource(source="z:f", name="f-2"), "0*w:f"))
    assert [source.name for source in given] == ["f", "f-2", "f-2", "f-3"]
    assert used_rewards(RunConfig().train.ppo.rewards) == ()
    with pytest.raises(UsageError, match="every reward has weight 0"):
        used_rewards("0*judge")


def test_functions_are_weighted_and_added_up(module):
    name = module(
        "import asyncio\n"
        "import numpy, torch\n"
        "def words(prompts, completions):\n"
        "    return [len(c.text.split()) for c in completions]\n"
        "async def slow(prompts, completions):\n"
        "    await asyncio.sleep(0.01)\n"
        "    return numpy.array([p.id == 'two' for p in prompts], dtype=numpy.float32)\n"
        "class Rules:\n"
        "    @staticmethod\n"
        "    def one(prompts, completions):\n"
        "        return tuple(torch.ones(len(prompts), dtype=torch.bfloat16))\n"
    )
    given = (f"0.5*{name}:words", f"-2*{name}:slow", f"0*{name}:Rules.one")
    with open_rewards(RunConfig(), given) as parts:
        values = {part.name: list(part.source(PROMPTS, COMPLETIONS)) for part in parts}
        assert values == {"words": [3.0, 1.0], "slow": [0.0, 1.0], "Rules.one": [1.0, 1.0]}
        assert total_rewards(as_parts(parts), values, Welfare(), PROMPTS) == [1.5, -1.5]


def test_a_function_given_as_one():
    def words(prompts, completions):
        return [len(completion.text.split()) for completion in completions]

    assert scores(words) == {"words": [3.0, 1.0]}
    assert set(scores((words, words))) == {"words", "words-2"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "returned 1 rewards for 2 responses"),
        ("return [1.0, float('nan')]", "returned nan for the response to prompt 'two'"),
        ("return [None, 1.0]", "returned None for the response to prompt 'one'"),
        ("return [1.0, '2']", "returned '2' for the response to prompt 'two'"),
        ("return [True, False]", "returned True for the response to prompt 'one'"),
        ("return 1.0", "returned a float"),
        ("return None", "returned a NoneType"),
        ("return 'ab'", "returned a str"),
        ("return 1 / 0", "raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_does_wrong_is_named(module, body, said):
    name = module(f"def mine(prompts, completions):\n    {body}\n")
    with pytest.raises(DataError, match=said) as found:
        scores(f"{name}:mine")
    assert f"the reward function {name}:mine " in str(found.value)
    # Where it was raised by the function, --debug shows the function's own traceback.
    assert isinstance(found.value.__cause__, ZeroDivisionError) == ("/ 0" in body)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("math:no_such", "math has no 'no_such'"),
        ("math:pi", "is a float, not a function"),
        ("./nowhere", "reward './nowhere': no such folder"),
        ("http://", "names no host"),
    ],
)
def test_a_source_that_does_not_exist(source, said):
    with pytest.raises(UsageError, match=said):
        scores(source)


def test_a_module_that_cannot_be_imported(module):
    broken = module("1 / 0\n")
    with pytest.raises(UsageError, match=f"importing {broken} raised ZeroDivisionError"):
        scores(f"{broken}:f")
    needing = module("import no_such_library\n")
    with pytest.raises(UsageError, match="its module needs 'no_such_library'"):
        scores(f"{needing}:f")


def test_identity_follows_the_function_s_file(module, tmp_path):
    name = module("def f(prompts, completions):\n    return [0.0 for _ in prompts]\n")

    def identity():
        with open_rewards(RunConfig(), f"{name}:f") as (part,):
            return part.identity

    first = identity()
    assert first.startswith(f"{name}:f#")
    assert identity() == first
    (tmp_path / f"{name}.py").write_text("# other\n", encoding="utf-8")
    assert identity() != first


def test_the_run_s_own_reward_model_is_the_default(tmp_path):
    config = RunConfig(run=tmp_path)
    with pytest.raises(UsageError, match=r"no reward model in .*reward; run `constitute train reward` first"):
        scores((), config)
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "config.json").write_text("{}")
    with open_rewards(config) as (part,):
        assert (part.name, part.source, part.weight) == ("reward", str(tmp_path / "reward"), 1.0)
        default = part.identity
    with open_rewards(config, f"0.5*{tmp_path / 'reward'}") as (part,):
        assert (part.name, part.source, part.weight) == ("reward", str(tmp_path / "reward"), 0.5)
        assert part.identity == default


def test_the_fake_judge_scores_from_blocking_code(tmp_path):
    """Two batches on one loop, the engine closed at the end; the reward is its own formula's, by hand."""
    import hashlib

    from constitute.constitution.draw import draw
    from constitute.constitution.read import load_constitution
    from constitute.engines.fake import FakeEngine
    from constitute.stages.labels.rating import RATINGS, score_turn
    from constitute.types import Request

    sets = ["engine.kind=fake", "model=somebody", "constitution=pocket/harmless"]
    config = load_config(None, sets)
    with open_rewards(config, ("judge", "0*judge")) as parts:
        found = [part.source(PROMPTS, COMPLETIONS) for part in parts for _ in range(2)]
        names = [part.name for part in parts]
    assert names == ["judge", "judge-2"]
    expected = []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        principle = draw(load_constitution("pocket/harmless"), prompt.id, 0)
        request = Request(messages=score_turn(prompt, completion.text, principle))
        shown = FakeEngine("somebody", config.engine).rendered(request)
        weights = [
            1 + int.from_bytes(hashlib.sha256(shown + b"\0" + rating.encode()).digest()[:2], "big")
            for rating in RATINGS
        ]
        mean = sum(rating * weight for rating, weight in enumerate(weights, 1)) / sum(weights)
        expected.append((mean - 5.5) / 4.5)
    assert all(values == pytest.approx(expected) for values in found)
    assert not math.isclose(*expected)


def test_a_kind_of_source_is_one_entry(monkeypatch):
    """The kind that CONTRIBUTING adds is parsed, named and opened; nothing else is touched."""
    add_module(monkeypatch, "words_reward", example("A reward source"))
    monkeypatch.setitem(KINDS, "words", import_module("words_reward").KIND)
    with open_rewards(RunConfig(), ("0.5*words~2", "words~9")) as parts:
        assert [(part.name, part.weight, part.identity) for part in parts] == [
            ("words", 0.5, "words~2"), ("words-2", 1.0, "words~9"),
        ]  # fmt: skip
        assert [part.source(PROMPTS, COMPLETIONS) for part in parts] == [[2, 1], [3, 1]]
    with pytest.raises(UsageError, match=r"URL, judge\[:CONSTITUTION\], or words~MOST"):
        scores("./nowhere")


def test_what_a_source_opens_is_closed_at_the_end(monkeypatch):
    closed = []

    def open_one(source, opening):
        opening.closing.callback(closed.append, source)
        return (lambda prompts, completions: [0.0, 0.0]), source

    kind = SourceKind("x!", lambda source: source.startswith("x!"), lambda source: "x", open_one)
    monkeypatch.setitem(KINDS, "x", kind)
    with open_rewards(RunConfig(), ("x!1", "x!2")):
        assert closed == []
    assert closed == ["x!2", "x!1"]


def test_a_reward_model_whose_training_stopped_is_refused(tmp_path):
    (tmp_path / "run" / "reward" / "checkpoints").mkdir(parents=True)
    config = RunConfig(run=tmp_path / "run")
    with (
        pytest.raises(
            UsageError, match=r"reward is not finished .* `constitute train reward --run .*--reward$"
        ),
        open_rewards(config),
    ):
        pass
