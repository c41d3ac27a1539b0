"""Model-written evals: write a set, score policies on it, compare them. Start at `write` and `run`.

`families` holds the kinds of items, each one module.
"""
