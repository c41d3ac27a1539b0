"""Whole runs: stages, training and evals put together over one run directory."""
