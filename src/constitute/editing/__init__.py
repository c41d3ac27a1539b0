"""What helps to edit a constitution: rules, effects, attribution; pure functions over records."""
