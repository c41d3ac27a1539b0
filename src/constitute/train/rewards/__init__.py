"""What a response is worth: reward models, functions, services and the judge. Start at `sources`."""
