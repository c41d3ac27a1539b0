"""The commands of `constitute evals`, one module each; start at `group`."""
