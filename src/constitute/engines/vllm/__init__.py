"""vLLM in this process. Start at `engine`; `worker` runs inside vLLM, `transfer` sends it weights."""
