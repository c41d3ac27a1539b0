"""Every chat template that the tests know, and what the renderer makes of it, as text that can be read.

`CONSTITUTE_GOLDEN=write pytest tests/unit/engines/test_templates_table.py` writes tests/golden/templates and
docs/templates.md anew; read the diff.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from places import ROOT
from tiny_models import byte_tokenizer

from constitute.engines.render import Renderer, RenderSettings
from constitute.errors import ConstituteError, RowError
from constitute.types import Completion, Message, Request, SamplingParams

OWN = ROOT / "tests" / "chat_templates"
GOLDEN = ROOT / "tests" / "golden" / "templates"
PAGE = ROOT / "docs" / "templates.md"
DAY = "2026-03-05"
_CONTROL = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|>|<｜[^｜<>\s'\"]{1,40}｜>|<\|[a-z_]{2,20}>|<[a-z_]{2,20}\|>"
    r"|</?[a-z_]{1,20}>|\[/?[A-Z_]{3,20}\]|\[gMASK\]|\[\|[a-z]+\|\]|<BOS_TOKEN>"
)
# Added tokens that public tokenizers do not call special, so that no detokenizer skips them.
_PLAIN = re.compile(r"</?(?:think|tool_call|tool_response|tools|response|function|arg_key|arg_value)>")


@dataclass(frozen=True)
class Family:
    """What the templates of one file-name stem share: models that use them, the eos token, other ends.

    `thought` is what such a model samples with thinking on; it thinks "why" and answers "Yes."
    """

    models: str
    eos: str
    ends: tuple[str, ...] = ()
    thought: str = ""


_END = "<|im_end|>"
_CLOSED = f"why\n</think>\n\nYes.{_END}"
_OPEN = f"<think>\nwhy\n</think>\n\nYes.{_END}"
_GEMMA4 = "<|channel>thought\nwhy\n<channel|>Yes.<turn|>"
_SENTENCE = "<｜end▁of▁sentence｜>"
# File name without `_training` and `_v2` -> its family; names in `tests/chat_templates` and in TRL.
FAMILIES: dict[str, Family] = {
    "cohere": Family("Aya Expanse, Command R", "<|END_OF_TURN_TOKEN|>"),
    "cohere2": Family("Command R7B, Tiny Aya", "<|END_OF_TURN_TOKEN|>"),
    "deepseek_r1_distill": Family(
        "DeepSeek-R1-Distill", _SENTENCE, thought=f"why\n</think>\n\nYes.{_SENTENCE}"
    ),
    "deepseekv3": Family("DeepSeek-V3", _SENTENCE),
    "diffusion_gemma": Family("DiffusionGemma", "<turn|>", thought=_GEMMA4),
    "gemma": Family("Gemma 1 and 2", "<eos>", ("<end_of_turn>",)),
    "gemma3": Family("Gemma 3", "<eos>", ("<end_of_turn>",)),
    "gemma4": Family("Gemma 4", "<turn|>", thought=_GEMMA4),
    "glm4moe": Family(
        "GLM-4.5, GLM-4.6",
        "<|endoftext|>",
        ("<|user|>", "<|observation|>"),
        "\n<think>why</think>\nYes.<|user|>",
    ),
    "gptoss": Family(
        "gpt-oss",
        "<|return|>",
        thought="<|channel|>analysis<|message|>why<|end|><|start|>assistant"
        "<|channel|>final<|message|>Yes.<|return|>",
    ),
    "idefics3": Family("Idefics3", "<end_of_utterance>"),
    "lfm2": Family("LFM2", _END),
    "lfm2_2_5": Family("LFM2.5", _END, thought=f"<think>why</think>Yes.{_END}"),
    "lfm2_2_5_vl": Family("LFM2.5-VL", _END, thought=f"<think>why</think>Yes.{_END}"),
    "llama3": Family("Llama 3", "<|eot_id|>", ("<|end_of_text|>",)),
    "llama3_1": Family("Llama 3.1", "<|eot_id|>", ("<|end_of_text|>", "<|eom_id|>")),
    "llama3_2": Family("Llama 3.2", "<|eot_id|>", ("<|end_of_text|>", "<|eom_id|>")),
    "llava_next": Family("LLaVA-NeXT", "</s>"),
    "muse_glimmer": Family(
        "Muse Glimmer",
        "<|eot|>",
        thought=" to=self<|message|>why<|eom|><|start|>assistant to=user<|message|>Yes.<|eot|>",
    ),
    "nemotron_3_5_lightning": Family("Nemotron 3.5 Lightning", _END, thought=_CLOSED),
    "nemotron_3_nano": Family("Nemotron 3 Nano", _END, thought=_CLOSED),
    "nemotron_3_super": Family("Nemotron 3 Super", _END, thought=_CLOSED),
    "nemotron_3_ultra": Family("Nemotron 3 Ultra", _END, thought=_CLOSED),
    "phi3": Family("Phi-3", "<|endoftext|>", ("<|end|>",)),
    "phi3_5": Family("Phi-3.5", "<|endoftext|>", ("<|end|>",)),
    "qwen2_5": Family("Qwen2.5", _END, ("<|endoftext|>",)),
    "qwen2_5_vl": Family("Qwen2.5-VL, Qwen2-VL", _END),
    "qwen3": Family("Qwen3", _END, ("<|endoftext|>",), _OPEN),
    "qwen3_5_nothink": Family("Qwen3.5 up to 2B", _END, thought=_CLOSED),
    "qwen3_5_think": Family("Qwen3.5 from 4B", _END, thought=_CLOSED),
    "qwen3_6": Family("Qwen3.6", _END, thought=_CLOSED),
    "qwen3_8": Family("Qwen3.8", _END, thought=_CLOSED),
    "qwen3_instruct_2507": Family("Qwen3-Instruct-2507", _END),
    "qwen3_vl": Family("Qwen3-VL", _END),
    "smolvlm": Family("SmolVLM", "<end_of_utterance>"),
    "command_a_reasoning": Family(
        "Command A Reasoning",
        "<|END_OF_TURN_TOKEN|>",
        thought="<|START_THINKING|>why<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
    ),
    "deepseek_v3_1": Family("DeepSeek-V3.1", _SENTENCE, thought=f"why</think>Yes.{_SENTENCE}"),
    "exaone_4": Family("EXAONE 4.0", "[|endofturn|]", thought="why\n</think>\n\nYes.[|endofturn|]"),
    "gemma_2": Family("Gemma 2", "<eos>", ("<end_of_turn>",)),
    "glm_4": Family("GLM-4-9B-Chat", "<|endoftext|>", ("<|user|>", "<|observation|>")),
    "granite_3_3": Family(
        "Granite 3.3", "<|end_of_text|>", thought="<think>why</think><response>Yes.</response><|end_of_text|>"
    ),
    "kimi_k2": Family("Kimi-K2-Instruct", _END),
    "llama_3_3": Family("Llama 3.3", "<|eot_id|>", ("<|end_of_text|>", "<|eom_id|>")),
    "magistral": Family("Magistral Small", "</s>", thought="[THINK]why[/THINK]Yes.</s>"),
    "mistral_small_3": Family("Mistral Small 3", "</s>"),
    "mistral_v3": Family("Mistral-7B-Instruct v0.3", "</s>"),
    "mistral_v1": Family("Mistral-7B-Instruct v0.1, v0.2", "</s>"),
    "olmo_2": Family("OLMo 2, Tulu 3", "<|endoftext|>"),
    "olmo_3": Family("OLMo 3 Instruct", "<|endoftext|>", (_END,)),
    "phi_4": Family("Phi-4", _END, ("<|endoftext|>",)),
    "phi_4_reasoning": Family("Phi-4-reasoning", _END, thought=f"<think>why</think>Yes.{_END}"),
    "smollm_2": Family("SmolLM2-Instruct", _END),
    "smollm_3": Family("SmolLM3", _END, thought=_OPEN),
    "vicuna": Family("Vicuna 1.5", "</s>"),
    "zephyr": Family("Zephyr", "</s>"),
}


def templates() -> dict[str, str]:
    """Name -> text of each template: ours after public models, and all of the installed TRL."""
    folders = [OWN]
    spec = find_spec("trl")
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent / "chat_templates")
    return {
        path.stem: path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(folder.glob("*.jinja"))
    }


def family(name: str) -> Family:
    """The family of a template; a name that no family has is an error of the table."""
    return FAMILIES[name if name in FAMILIES else re.sub(r"(_v\d)?(_training)?$", "", name)]


def tokenizer_of(name: str, text: str) -> Any:
    """A token a byte, and the control tokens that the template and its family name."""
    of = family(name)
    spelled = _CONTROL.findall(of.thought)
    # OLMo 2 writes its roles in words like any other, although they look like tokens.
    named = re.sub(r"<\|(?:user|system|assistant)\|>", "", text) if name == "olmo_2" else text
    names = dict.fromkeys(
        [of.eos, *of.ends, *_CONTROL.findall(named), *spelled, "<think>", "</think>", "<bos>"]
    )
    plain = [each for each in names if _PLAIN.fullmatch(each)]
    special = [each for each in names if each not in plain]
    tokenizer = byte_tokenizer(text, special=[*special, "<pad>"], plain=plain, eos=of.eos, pad="<pad>")
    tokenizer.bos_token = "<bos>"
    return tokenizer


@cache
def renderer_of(name: str) -> Renderer:
    """The renderer of a template on its toy tokenizer, on one day."""
    tokenizer = tokenizer_of(name, templates()[name])
    ends = frozenset(tokenizer.convert_tokens_to_ids(list(family(name).ends)))
    return Renderer(tokenizer, name, ends, RenderSettings(date=DAY))


def spelled(renderer: Renderer, ids: Sequence[int]) -> str:
    """Token ids as text: control tokens between « and », line ends as \\n."""
    parts: list[str] = []
    run: list[int] = []

    def flush() -> None:
        if run:
            parts.append(renderer.tokenizer.decode(list(run)).replace("\\", "\\\\").replace("\n", "\\n"))
            run.clear()

    for token in ids:
        if token in renderer.control:
            flush()
            parts.append(f"«{renderer.tokenizer.convert_ids_to_tokens(token)}»")
        else:
            run.append(token)
    flush()
    return "".join(parts)


def marked(renderer: Renderer, row: tuple[Sequence[int], Sequence[int]]) -> str:
    """A training row as text; what bears loss stands between ⟦ and ⟧."""
    ids, labels = row
    text, start = "", 0
    while start < len(ids):
        loss = labels[start] != -100
        end = next((at for at in range(start, len(ids)) if (labels[at] != -100) != loss), len(ids))
        part = spelled(renderer, ids[start:end])
        text += f"⟦{part}⟧" if loss else part
        start = end
    return text


def turns(*texts: str) -> tuple[Message, ...]:
    """User and assistant in turn."""
    return tuple(
        Message(role="assistant" if at % 2 else "user", content=text) for at, text in enumerate(texts)
    )


SYSTEM = Message(role="system", content="Be kind.")


def uses(name: str) -> dict[str, str]:
    """What the renderer makes of each use of a template, as text; a refusal as its sentence."""
    renderer = renderer_of(name)
    asked = Request(messages=turns("Hi?"))
    answered = turns("Hi?", "Yes.")
    longer = turns("Hi?", "No.", "Why?", "Yes.")
    found = {
        "prompt": _said(lambda: spelled(renderer, renderer.ids(asked))),
        "label A": _said(lambda: spelled(renderer, renderer.label_ids(asked, "A"))),
        "with a system turn": _said(
            lambda: spelled(renderer, renderer.ids(Request(messages=(SYSTEM, *asked.messages))))
        ),
        "several turns": _said(lambda: spelled(renderer, renderer.ids(Request(messages=longer[:3])))),
        "two users in a row": _said(
            lambda: spelled(renderer, renderer.ids(Request(messages=(*turns("Hi?"), *turns("Why?")))))
        ),
        "prefill": _said(
            lambda: spelled(renderer, renderer.ids(Request(messages=turns("Hi?"), prefill="Ye")))
        ),
        "thinking on": _said(
            lambda: spelled(renderer, renderer.ids(Request(messages=turns("Hi?"), thinking=9)))
        ),
        "thought": _said(lambda: _thought(renderer, family(name).thought)),
        "trained": _said(lambda: _rows(renderer, answered, "last")),
        "trained, several turns": _said(lambda: _rows(renderer, longer, "last")),
        "trained, every answer": _said(lambda: _rows(renderer, longer, "all")),
        "ends": " ".join(sorted(renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.eos_ids)))),
    }
    return found


def _rows(renderer: Renderer, messages: Sequence[Message], loss: Any) -> str:
    return " | ".join(marked(renderer, row) for row in renderer.training_rows(messages, loss))


def _thought(renderer: Renderer, text: str) -> str:
    """A sampled answer with thinking on: what was kept apart, and what is the answer."""
    if not text:
        return "-"
    ids = tuple(renderer.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
    sampled = Completion(text=renderer.tokenizer.decode(list(ids), skip_special_tokens=True), token_ids=ids)
    request = Request(messages=turns("Hi?"), thinking=50, sampling=SamplingParams(max_tokens=20))
    read = renderer.completion(request, sampled)
    return f"reasoning {read.reasoning!r}, answer {read.text!r}"


def _said(use: Any) -> str:
    try:
        return str(use())
    except (RowError, ConstituteError) as problem:
        return f"refused: {problem}"


def golden(name: str) -> str:
    """The golden text of a template."""
    lines = [f"{use}: {text}" for use, text in uses(name).items()]
    return "\n".join([*renderer_of(name).traits.lines(), "", *lines]) + "\n"


_HEAD = """# Chat templates

constitute finds out what a chat template does by rendering short conversations with it (see
[models.md](models.md)). This page says what it found for the templates that its tests know: every text
template of the installed TRL, and some written after public models' templates. A model that is not named
here is treated in the same way: `constitute doctor --model M` prints the same for it.

- **thinking**: *none*: the template knows none. *switched by X*: the variable X turns it off, and on where
  a stage gives it tokens. *closed by us*: there is no switch, and the prompt goes on to where the answer
  begins. *always*: nothing turns it off; what the model thinks is kept apart from its answer.
- **system**: *own role*, *folded* into the first user turn, or *own default text* where none is given.
- **several answers**: *one sequence*: all answers of a conversation can be trained on at once. *one each*:
  the template writes earlier turns differently, so each trained answer is a sequence of its own.
- **date**: the template writes today's date, which a run pins to the day it began.

The tests make this page and check it; tests/golden/templates has every prompt, label and training row.

| template | models | thinking | system | several answers | date | a turn ends with |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """docs/templates.md: a line a template; variants that are treated alike share one."""
    lines: dict[tuple[str, str], list[str]] = {}
    for name in sorted(templates()):
        traits = renderer_of(name).traits
        thinking = f"switched by `{traits.switch.name}`" if traits.switch else traits.thinking
        refused = uses(name)["prompt"].startswith("refused")
        cells = [
            thinking,
            traits.system,
            "one each" if traits.rewrites else "one sequence",
            "yes" if traits.dated else "no",
            " ".join(f"`{end}`" for end in uses(name)["ends"].replace("|", "\\|").split()),
        ]
        if refused:
            cells = ["refused: takes messages as lists of parts", "-", "-", "-", "-"]
        lines.setdefault((family(name).models, " | ".join(cells)), []).append(f"`{name}`")
    return _HEAD + "".join(
        f"| {', '.join(names)} | {models} | {cells} |\n" for (models, cells), names in lines.items()
    )
