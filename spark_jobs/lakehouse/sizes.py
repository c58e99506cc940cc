"""The sizes at which one way of doing something gives way to another. What comes out is the same on both sides of each.

Each was measured on two cores; the decisions named tell how. Sizes of tables are bytes of their Parquet files.
"""

from __future__ import annotations

MB = 1024 * 1024

BYTES_OF_LANDED_ROW, BYTES_OF_STORED_ROW = 160, 20
"""What a row takes, about: in a CSV or JSON file as it is delivered, and in a table's files."""
LITTLE_ROWS = 200_000
"""Up to so many rows at once, the optimizing compiler and code for single expressions do not pay (decisions 0034, 0050), and
keys are sent to the table instead of shuffling it (0035)."""

READ_WHOLE_BYTES, READ_WHOLE_FILES = 64 * MB, 200
"""A table up to this size is read by the files that its log names: to have Delta find those that are needed takes up to four
queries (0048)."""

JOURNAL_FILES, JOURNAL_FILE_BYTES = 8, MB
"""A journal of more files gets those that are smaller made one, with its next record: each takes three requests of who reads it (0061)."""

MERGED_WHOLE_BYTES = 2 * MB
"""A table up to this size gets one MERGE of old and new rows, which writes its files anew; a larger one gets its new rows appended,
and those that change marked (0049)."""
LISTED_KEYS = 5_000
"""Up to so many keys, a MERGE names them: its condition, which the commit keeps, is then 100 kB with keys of some 15 characters (0036)."""

REWRITTEN_BYTES = 4 * MB
"""Timelines up to this size are written anew: which of their rows have changed would take more queries to find (0057)."""
KEPT_BYTES = 16 * MB
"""Events up to this size are kept in memory, and so is what gold is made of on the way (0049); and all days are added up anew (0058)."""
COMPUTED_ANEW_BYTES = 64 * MB
"""Events up to this size are computed anew sooner than it is found out which have changed. At 34 MB (a million rows) a day of a
hundredth took 65 s and 125 s of CPU anew, 76 and 145 s by what had changed, which was a third of the customers (one run each)."""
CARRIED_OVER_SHARE = 0.5
"""Of larger ones, customers are carried over from the last snapshot while at most this share of them has changes (0020)."""
