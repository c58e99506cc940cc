"""Every stage of a first load, on a few rows, in one JVM: from it, `bin/class-archive` knows which classes a stage needs.

Run it with: `spark-submit bin/every_stage.py FOLDER`. FOLDER is left for the caller to remove.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "spark_jobs"
DELIVERY = {
    "customers": """\
CustomerID,Name,Email,RegistrationDate,CustomerType,Country,LastActiveDate,UpdatedAt,op
C1,Customer 1,c1@shop.example,2026-01-10T00:18:45Z,regular,Poland,2026-03-01T00:18:45Z,2026-03-01T00:18:45Z,
C2,Customer 2,c2@shop.example,2026-01-11T00:18:45Z,regular,France,2026-03-01T00:18:45Z,2026-03-01T00:18:45Z,
""",
    "products": """\
ProductID,Category,Price,StockAvailability,UpdatedAt,op
P1,Books,38.50,459,2026-03-01T00:00:00Z,
P2,Garden,64.24,201,2026-03-01T00:00:00Z,
""",
    # The last amount is none: a row for quarantine.
    "transactions": """\
TransactionID,OrderID,CustomerID,ProductID,Date,Amount,PaymentMethod,TransactionStatus,UpdatedAt,op
T1,O1,C1,P1,2026-03-01T17:11:34Z,38.50,invoice,Completed,2026-03-01T17:11:34Z,
T2,O2,C2,P2,2026-03-01T22:48:56Z,64.24,paypal,Completed,2026-03-01T22:48:56Z,
T3,O3,C2,P2,2026-03-01T23:48:56Z,64-24,paypal,Completed,2026-03-01T23:48:56Z,
""",
    "interactions": "".join(
        json.dumps({"InteractionID": f"I{n}", "CustomerID": f"C{n}", "InteractionType": "view",
                    "Timestamp": "2026-03-01T16:09:04Z", "Page": "/search", "Source": "mobile_app",
                    "Metadata": json.dumps({"product_id": f"P{n}"})}) + "\n"
        for n in (1, 2)
    ),
}  # fmt: skip


def deliver(landing: Path) -> None:
    """A day of the shop, as `sources/shop` says that it comes."""
    for name, text in DELIVERY.items():
        day = landing / "shop" / name / "2026-03-01"
        day.mkdir(parents=True)
        (day / f"part.{'jsonl' if name == 'interactions' else 'csv'}").write_text(text, encoding="utf-8")


def run(script: str, *arguments: str) -> None:
    """As spark-submit would; a script that fails ends the run."""
    sys.argv = [str(SCRIPTS / script), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def main(folder: Path) -> None:
    sys.path.insert(0, str(SCRIPTS))
    deliver(folder / "landing")
    of_warehouse = ("--warehouse", str(folder / "warehouse"))
    run("ingest.py", *of_warehouse, "--landing", str(folder / "landing"), "--only", "shop")
    run("validate.py", *of_warehouse, "--only", "shop")
    run("merge.py", *of_warehouse)
    run("featurize.py", *of_warehouse, "--as-of", "2026-03-02")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
