"""Tending the tables: compaction and clustering where files are small, and removal of old files."""
