"""What a model does under a constitution, before and after an edit. Start at `session`."""
