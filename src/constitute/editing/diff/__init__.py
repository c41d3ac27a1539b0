"""What differs between two constitutions: in words, and in the labels of stored pairs. Start at `run`."""
