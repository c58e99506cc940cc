"""Staged rows to silver: the current state of each key, and its history."""
