"""Reward models: pairs, training, evaluation, scoring. Start at `run`."""
