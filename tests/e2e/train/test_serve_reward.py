"""`constitute serve-reward` as a process: its URL, a reward over HTTP, and an end by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

from places import ROOT

FUNCTION = """
def length(prompts, completions):
    assert prompts[0].messages[-1].content == "Why?"
    return [float(len(completion.text)) for completion in completions]
"""


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as problem:
        return problem.code, json.load(problem)


def test_a_served_function_until_it_is_interrupted(tmp_path, tiny_model):
    (tmp_path / "served_function_of_test.py").write_text(FUNCTION)
    words = ["serve-reward", "--model", str(tiny_model), "--reward", "2*served_function_of_test:length"]
    child = subprocess.Popen(
        [sys.executable, "-m", "constitute", *words, "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    try:
        url = child.stdout.readline().strip()
        label = json.dumps({"id": "p", "messages": [{"role": "user", "content": "Why?"}]})
        prompt = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
        body = {"query": [f"{prompt}So.<|im_end|>"], "prompts": [prompt], "labels": [label]}
        # Three letters, twice.
        assert ask(url, body) == (200, {"rewards": [6.0], "scores": [6.0], "extra_logs": {"length": [3.0]}})
        assert ask(url, {**body, "labels": ["other"]})[0] == 422
        assert ask(url.replace("get_reward", "health"))[1]["rows"] == 2
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    finally:
        child.kill()
