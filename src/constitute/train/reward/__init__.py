"""The reward model: its pairs, its training, its evaluation, and the model in use. Start at `train`."""
