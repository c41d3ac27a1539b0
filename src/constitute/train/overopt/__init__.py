"""Proxy against gold: where to stop. Start at `run`."""
