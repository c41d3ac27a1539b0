"""Reward models on preference files and on RewardBench: start at `run`.

`items` reads files, `figures` makes scores of rewards, `boards` has the arithmetic of published benchmarks,
`pairwise` takes a judge's labels in the place of rewards.
"""
