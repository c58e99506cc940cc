"""Landing files to bronze: each file loaded exactly once, its values as received."""
