"""A made-up shop of any size: deterministic for a seed, with a stated share of dirt."""
