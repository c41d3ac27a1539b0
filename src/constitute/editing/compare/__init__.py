"""The same drafts revised under two constitutions, and which revisions are preferred. Start at `run`."""
