"""Airflow in the browser, on the warehouse of a demo, until Ctrl-C. Called by `make ui`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from airflow_server import ROOT, claim, environment_of, prepare
from loopback import listens


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--source", default="shop", help="the demo whose warehouse it is (default: shop)")
    p.add_argument("--state", help="folder for landing, warehouse and reports (default: var/demo/<source>)")
    args = p.parse_args()
    environment = environment_of(Path(args.state).resolve() if args.state else ROOT / "var/demo" / args.source)
    address, port = environment["AIRFLOW__API__BASE_URL"], environment["AIRFLOW__API__PORT"]
    handle = claim(Path(environment["AIRFLOW_HOME"]))
    if listens(int(port)):
        sys.exit(f"Something else listens on port {port}. End it, or set AIRFLOW__API__PORT to a free one.")
    prepare(environment)
    print(f"Airflow is starting on {environment['LAKEHOUSE_WAREHOUSE']}; open {address} (Ctrl-C ends it)", flush=True)
    os.set_inheritable(handle, True)
    os.execvpe("airflow", ["airflow", "standalone"], environment)


if __name__ == "__main__":
    main()
