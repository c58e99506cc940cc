"""The package that the stage scripts ship: one folder per room of the data flow.

A stage (ingestion, validation, merging, features, maintenance) knows the shared modules beside
this file and no other stage. All reads and writes of tables go through ``tables``.
"""

__version__ = "0.1.0"
