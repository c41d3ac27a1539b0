"""Best-of-n sampling against a reward. Start at `run`."""
