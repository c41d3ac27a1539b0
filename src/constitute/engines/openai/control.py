"""Break up text that a server's chat template may turn into control tokens; pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from constitute.types import Message

# Words that tokenizers of widely used models reserve, in the brackets that each family writes them in.
_PATTERNS = (
    r"<\|[^|<>\s]{1,64}\|>",  # ChatML, Llama 3, gpt-oss, Phi, Command, Falcon 3
    r"<｜[^｜<>\n]{1,64}｜>",  # DeepSeek
    r"\[\|/?[A-Za-z_]{2,32}\|\]",  # EXAONE
    r"<\|[a-z_]{2,32}>|<[a-z_]{2,32}\|>",  # Gemma 4
    r"◁/?[a-z_]{2,32}▷",  # Kimi
    r"</?seed:[a-z_]{2,32}>|</?minimax:[a-z_]{2,32}>",
    r"\]~!?b[\[\]]|\[e~\[",  # MiniMax
    r"</?s>",  # Llama 2, Mistral
    r"<(?:bos|eos|pad|unk|cls)(?:_token)?>",
    r"<(?:start|end|begin)_of_[a-z_]{2,32}>",  # Gemma
    r"<(?:extra_id_|unused|reserved_|reserved_token_|special_|SPECIAL_)\d{1,6}>",
    r"<(?:sop|eop|eod|eot|eom|fim_[a-z]{2,16}|jupyter_[a-z]{2,16})>",
    r"</?(?:think|tool_call|tool_response|arg_key|arg_value)>",
    r"<</?SYS>>",
    r"\[/?INST\]",
)
# In upper case alone: `[img]` and `[prefix]` are ordinary text.
_UPPER = (
    r"\[[gs]?MASK\]|\[(?:CLS|SEP|PAD|UNK|BOS|EOS)\]"
    r"|\[/?(?:THINK|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|AVAILABLE_TOOLS|MODEL_SETTINGS|ARGS"
    r"|CALL_ID|IMG|IMG_BREAK|IMG_END|AUDIO|PREFIX|MIDDLE|SUFFIX)\]"
)
_CONTROL = re.compile(f"(?i:{'|'.join(_PATTERNS)})|{_UPPER}")


def escaped(text: str) -> tuple[str, int]:
    """`text` with a space put inside everything that looks like a control token, and how many there were."""
    return _CONTROL.subn(lambda found: found[0][0] + " " + found[0][1:], text)


def escaped_messages(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], int]:
    """Messages as the chat endpoint takes them, escaped, and how many places were."""
    sent: list[dict[str, Any]] = []
    total = 0
    for message in messages:
        text, count = escaped(message.content)
        sent.append({"role": message.role, "content": text})
        total += count
    return sent, total
