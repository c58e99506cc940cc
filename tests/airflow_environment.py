"""An Airflow of the tests' own: a fresh home, no examples, SQLite, the project's DAGs and plugins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Before airflow is imported anywhere: it reads its configuration once.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"
for name in [n for n in os.environ if n.startswith("LAKEHOUSE_") and n != "LAKEHOUSE_TEST_DATA"]:
    del os.environ[name]
