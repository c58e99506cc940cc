# One image for everything in docker-compose.yaml: Airflow, and the Spark that it submits to.
FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps \
 && rm -rf /var/lib/apt/lists/*

# What changes rarely first: the packages and jars, by the same set-up as anywhere else.
WORKDIR /opt/lakehouse
COPY requirements.txt ./
COPY bin/setup bin/setup
COPY conf conf
RUN WITH=s3 bin/setup && rm -rf var/ivy /root/.cache /root/.ivy2*

COPY contracts contracts
COPY sources sources
COPY spark_jobs spark_jobs

# From which Spark's JVM starts sooner. It is bound to the jars as they lie on this image's disk.
COPY bin/spark_submit.py bin/class-archive bin/every_stage.py bin/
RUN bin/class-archive

COPY plugins plugins
COPY dags dags

ENV PATH=/opt/lakehouse/var/venv/bin:$PATH \
    TZ=UTC \
    LAKEHOUSE_ROOT=/opt/lakehouse \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/lakehouse/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/lakehouse/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False

# Any user may run it, as long as its group is root: that of whoever runs compose, so that it can read the secrets.
RUN mkdir -p /opt/airflow/logs /data/landing /data/events /opt/spark-work \
 && chmod -R a+rwX /opt/airflow /data /opt/spark-work \
 && chmod a+rwx var
