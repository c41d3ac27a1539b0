"""The demonstration: an embedded model, the small world it knows, and the oracle that reads it."""
