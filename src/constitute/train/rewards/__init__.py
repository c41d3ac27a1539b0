"""What a rollout is worth: reward models, functions, services and the judge. Start at `sources`."""
