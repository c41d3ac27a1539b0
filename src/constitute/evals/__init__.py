"""Model-written evals: write, gate, select, run, compare. Start at `run`."""
