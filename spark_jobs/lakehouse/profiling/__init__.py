"""From data that nobody has described to a proposed contract and source."""
