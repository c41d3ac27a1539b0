"""Which principle decides which pair. Start at `run`."""
