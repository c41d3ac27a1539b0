"""vLLM in this process. Start at `engine`; `worker` runs inside vLLM."""
