"""`constitute constitution …`: one file a command; start at `group`."""
