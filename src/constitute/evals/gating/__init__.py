"""Judge the items of an eval set by a model other than their writer, and keep those that pass.

Start at `run`: `judge` asks, `select` keeps, `figures` says how far they agree; `evals.judgements` is saved.
"""
