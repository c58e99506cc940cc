"""What the DAG files share. Light: no pyspark, no database, no network."""
