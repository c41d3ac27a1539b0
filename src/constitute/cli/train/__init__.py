"""`constitute train …`: one file a command; start at `group`."""
