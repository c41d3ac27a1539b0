"""Training on AI feedback: SFT, reward models, DPO, best-of-n, PPO. Start at `run`."""
