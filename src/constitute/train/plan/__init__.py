"""Say beforehand what a training takes of a GPU's memory, and what would fit. Start at `plan`."""
