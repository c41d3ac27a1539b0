"""Answers that a policy gives freely, and conversations, read by a judge or a scorer. Start at `run`."""
