"""Text that a server's template may take for a control token is broken up; ordinary text is left alone."""

from __future__ import annotations

import pytest

from constitute.engines.openai.control import escaped, escaped_messages
from constitute.types import Message

TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
    "<|IM_END|>",
    "<|user|>",
    "<|/tool|>",
    "<|START_THINKING|>",
    "<|channel|>",
    "<|message|>",
    "<|fim_prefix|>",
    '<|"|>',
    "<｜Assistant｜>",
    "<｜end▁of▁sentence｜>",
    "[|endofturn|]",
    "[|assistant|]",
    "[|system|]",
    "<|turn>",
    "<turn|>",
    "<|channel>",
    "<channel|>",
    "◁think▷",
    "◁/think▷",
    "<seed:think>",
    "</seed:think>",
    "<seed:bos>",
    "<minimax:tool_call>",
    "]~b]",
    "]~!b[",
    "[e~[",
    "<s>",
    "</s>",
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<BOS_TOKEN>",
    "<EOS_TOKEN>",
    "<PAD>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<start_of_image>",
    "<end_of_text>",
    "<extra_id_1>",
    "<extra_id_99>",
    "<unused42>",
    "<reserved_107>",
    "<SPECIAL_13>",
    "<sop>",
    "<eop>",
    "<eod>",
    "<fim_middle>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "<<SYS>>",
    "<</SYS>>",
    "[INST]",
    "[/INST]",
    "[gMASK]",
    "[sMASK]",
    "[MASK]",
    "[CLS]",
    "[SEP]",
    "[BOS]",
    "[THINK]",
    "[/THINK]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[AVAILABLE_TOOLS]",
    "[IMG]",
    "[CALL_ID]",
    "[ARGS]",
]


@pytest.mark.parametrize("token", TOKENS)
def test_every_control_token_is_broken_up(token):
    broken, count = escaped(f"before{token}after {token}")
    assert count == 2
    assert token not in broken
    # Nothing but a space was put in, and what comes out is left alone.
    assert broken.replace(token[0] + " " + token[1:], token) == f"before{token}after {token}"
    assert escaped(broken) == (broken, 0)


ORDINARY = [
    "if a < b and c > d: x = a | b",
    "for (i = 0; i < n; i++) { total |= mask[i] << 2; }",
    "f <| x |> g and xs |> List.map (fun x -> x) |> ignore",
    "data Maybe a = Nothing <|> Just a; p <|> q <|> r",
    "vector<int> v; std::map<string, vector<int>> m; Foo<T>::bar<U>()",
    "def f(x: list[int]) -> dict[str, int]: return {a[0]: b[1]}",
    "git commit -m '<message>' && cat <filename> | grep <pattern>",
    "<b>bold</b> <i>it</i> <div class='s'>x</div> <span>y</span> <br/> <mask id='m'/> <strong>z</strong>",
    "<html><head><title>t</title></head><body><p>text</p></body></html>",
    "<!-- a comment --> <?xml version='1.0'?> <![CDATA[ x ]]>",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "- [x] done\n- [ ] to do\n[link](https://example.org) ![img](a.png) [^1]",
    "[img]picture.png[/img] [b]bold[/b] [url=x]y[/url] [prefix] [suffix] [args]",
    "$|x| < |y|$ and $\\langle a | b \\rangle$, P(A|B) < P(B|A), {x | x > 0}, [a|b]",
    "|<a|b>|^2 = <b|a><a|b>",
    "x = a[i]; y = [1, 2, [3, 4]]; z = m[:, 0]; [cls for cls in found]",
    "SELECT * FROM t WHERE a <> b AND c <= d || e >= f;",
    "<think about it> and <s trong> and < s> and <bossy> and <stop>",
    "A -> B <- C <= D >= E <=> F << G >> H <<EOF\ntext\nEOF",
    "I <3 you :-> ^_^ <o/ \\o> [sic] [...] (A) **A** <A> [A]",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_alone(text):
    assert escaped(text) == (text, 0)


def test_the_places_of_all_messages_are_counted():
    messages = [Message(role="system", content="[INST] x"), Message(role="user", content="<s>a</s>")]
    assert escaped_messages(messages) == (
        [{"role": "system", "content": "[ INST] x"}, {"role": "user", "content": "< s>a< /s>"}],
        3,
    )
