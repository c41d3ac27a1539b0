"""Which principle decides which pair. Start at `figures`; `run` reads a run for them."""
