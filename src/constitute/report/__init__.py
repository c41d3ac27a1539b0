"""Pages that need nothing else and run nothing. Start at `render`."""
