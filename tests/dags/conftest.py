import airflow_environment  # noqa: F401
