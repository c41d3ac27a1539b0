"""OpenAI-compatible servers, over HTTP. Start at `engine`; `rollout` takes new weights."""
