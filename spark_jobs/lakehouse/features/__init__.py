"""Silver to gold: features as of an instant, from nothing that happened at or after it."""
