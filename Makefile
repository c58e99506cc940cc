# The two commands of the README, and the few that development needs.
SHELL := bash
SOURCE ?= shop
ROWS ?= 20000
IN := . bin/env &&

EXAMPLES ?= var/demo/online_retail/warehouse

.PHONY: help setup demo ui status up down examples kafka stream-demo test test-long equivalence bench check unit format lock docs pictures clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

setup: ## install what is needed below var/ (a no-op when it is there)
	@bin/setup

demo: setup ## run the main job through Airflow and show the result; SOURCE=, DATA=, AS_OF=, ROWS= choose other data
	@$(IN) python bin/demo.py --source "$(SOURCE)" --rows "$(ROWS)" $(if $(DATA),--data "$(DATA)") $(if $(AS_OF),--as-of "$(AS_OF)")

ui: setup ## Airflow in the browser on 127.0.0.1:8080, with the demo's warehouse; SOURCE= chooses it
	@$(IN) exec python bin/ui.py --source "$(SOURCE)"

status: setup ## tables, last runs, quarantine, snapshots and the stream of a warehouse; WAREHOUSE= names it
	@$(IN) python bin/status.py $(if $(WAREHOUSE),--warehouse "$(WAREHOUSE)")

up: ## Airflow, Postgres and a Spark cluster by Docker Compose, until all is healthy; WITH=stream adds Kafka and the stream; needs Docker and nothing else
	@COMPOSE_PROFILES="$(WITH)" bin/compose up

down: ## stop what `make up` has started; its volumes stay
	@bin/compose down

examples: setup ## models on the gold of `make demo SOURCE=online_retail`, judged on a cut-off they have not seen
	@[ -d "$(EXAMPLES)/silver" ] || { echo "examples: $(EXAMPLES) is no warehouse; first run: make demo SOURCE=online_retail DATA=<folder> AS_OF=2011-12-10" >&2; exit 1; }
	@$(IN) spark-submit spark_jobs/training_set.py --warehouse "$(EXAMPLES)" --name example --known-by now --horizon 90 \
	  --cut-offs 2011-04-01,2011-05-01,2011-06-01,2011-09-10
	@$(IN) for model in churn lifetime_value segments; do python examples/$$model.py --warehouse "$(EXAMPLES)" || exit; done

kafka: setup ## a Kafka broker below var/, for the tests and stream-demo
	@bin/setup-kafka

stream-demo: kafka ## the stream, live: a broker, a producer and a view of it, until Ctrl-C; ROWS= and RATE= are its size
	@$(IN) python bin/stream_demo.py --rows "$(ROWS)" $(if $(RATE),--rate "$(RATE)")

test: kafka check ## everything: checks, then all tests
	@$(IN) pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-long: kafka ## what make test leaves out: more kills, more ways to feed the same data
	@$(IN) pytest -m long

equivalence: setup ## one shop in many ways (daily, shuffled, late, killed, ...), to the same gold; ROWS= is its size
	@$(IN) python benchmarks/equivalence.py $(if $(filter command line,$(origin ROWS)),--rows $(ROWS))

bench: setup ## the suite against other ways to the same gold, with ratios and a chart; SCALE=1m|10m|100m, DAYS= of history
	@$(IN) python benchmarks/suite.py $(if $(SCALE),--scale "$(SCALE)") $(if $(DAYS),--days "$(DAYS)")

check: setup ## formatting, lint, layers, types, generated files
	@$(IN) ruff format --check . && ruff check . && PYTHONPATH=spark_jobs:dags:plugins lint-imports --no-cache --no-logo && mypy && python bin/generate-docs --check

unit: setup ## the tests that need no Spark, in seconds
	@$(IN) pytest tests/unit tests/dags tests/plugins

format: setup ## format the code and mend what can be mended
	@$(IN) ruff format . && ruff check --fix .

docs: setup ## write what follows from the catalogue and the contracts
	@$(IN) python bin/generate-docs

pictures: setup ## the pictures of docs/, from the warehouse of `make demo`; needs Chromium
	@$(IN) python bin/pictures.py

lock: setup ## pin requirements.in into requirements.txt
	@$(IN) uv pip compile -q --python-version 3.11 --no-emit-index-url --custom-compile-command "make lock" requirements.in -o requirements.txt

clean: ## remove all state but the virtual environment and the jars
	rm -rf var/demo var/airflow var/warehouse var/landing var/reports var/exchange
