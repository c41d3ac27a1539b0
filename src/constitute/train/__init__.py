"""Training on AI feedback: SFT, reward models, DPO, best-of-n, PPO.

Start at the `run_*` function of each: `sft`, `dpo`, `reward.train`, `best_of_n.run`, `ppo.start`.
"""
