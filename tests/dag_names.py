"""The DAGs, the stages of the daily one, and where a Databricks of the tests computes."""

DAGS = {
    *("medallion_batch", "quarantine_replay", "rebuild_features", "stream_watchdog"),
    *("table_maintenance", "training_set"),
}
STAGES = ["ingest", "validate", "merge", "featurize", "optimize"]
COMPUTE = {"existing_cluster_id": "0123-456789-abc"}
