"""Rows in and out: prompts, pairs, exports and the data card. Start at `rows`, the one reader."""
