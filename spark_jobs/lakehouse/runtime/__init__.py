"""What every stage runs on: the tables' logs and the journals of ``ops``, both read and written without Spark."""
