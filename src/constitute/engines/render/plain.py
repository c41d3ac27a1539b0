"""Conversations without a chat template: plain text with `Human:` and `Assistant:`, or the texts alone.

The plain form is that of Anthropic's released eval sets (arXiv 2212.09251), whose answers begin with a blank.
Both are templates like any other, so that text stays text here too.
"""

from __future__ import annotations

from typing import Any

from constitute.types import Form

_PLAIN = (
    "{% for m in messages %}{{ '' if loop.first else '\n\n' }}"
    "{{ {'user': 'Human: ', 'assistant': 'Assistant:', 'system': ''}[m.role] }}"
    # The last answer is a begun one, which brings its own blank.
    "{{ ' ' if m.role == 'assistant' and not loop.last else '' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
_BARE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def form_template(form: Form, tokenizer: Any) -> str | None:
    """The template of a form, None for the tokenizer's own; it opens as the tokenizer opens a text."""
    if form == "chat":
        return None
    begins = tokenizer("a")["input_ids"][:1]
    opening = "{{ bos_token }}" if begins == [tokenizer.bos_token_id] else ""
    return opening + (_PLAIN if form == "plain" else _BARE)
