"""PPO and RLOO: roll out, score, estimate advantages, update, push the weights. Start at `run`."""
