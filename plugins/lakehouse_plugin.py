"""Registers the lakehouse with Airflow."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class LakehousePlugin(AirflowPlugin):
    """Names the plugin; its operators are imported from ``lakehouse_airflow`` by the DAGs."""

    name = "lakehouse"
