"""A constitution's own tests: does a judge prefer the better answer of every example? Start at `run`."""
