"""Each stage by hand: what a user sees when something is wrong, and that a signal ends it cleanly."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import time
from pathlib import Path

from deltalake import DeltaTable
from shell import Shell
from support import ROOT

PRODUCTS = "ProductID,Category,Price,StockAvailability\np1,Toys,5.00,3\np2,Toys,x,3\n"


def deliver(shell: Shell, name: str, content: bytes) -> None:
    file = shell.landing / "shop/products" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def one_line(output: str) -> str:
    """The stage's last word; whatever it said before are progress lines, never a stack trace."""
    assert "Traceback" not in output
    assert "\tat " not in output
    return output.strip().splitlines()[-1]


def test_files_that_cannot_be_read_are_set_aside_and_hold_up_nobody(shell: Shell) -> None:
    deliver(shell, "good.csv", PRODUCTS.encode())
    deliver(shell, "cut.csv.gz", gzip.compress(PRODUCTS.encode() * 2000)[:-200])
    deliver(shell, "twice.csv", b"ProductID,Price,Price\np3,1,2\n")
    deliver(shell, "wide.csv", PRODUCTS.encode("utf-16"))
    deliver(shell, "empty.csv", b"")
    deliver(shell, "header only.csv", b"ProductID,Category,Price,StockAvailability\n")
    report = shell.ok("ingest", "--only", "shop_products")
    facts = report["tables"]["bronze.shop_products"]
    assert (facts["files_loaded"], facts["files_set_aside"], facts["rows_in"]) == (3, 3, 2)
    reasons = "\n".join(report["warnings"])
    assert "shop/products/cut.csv.gz is set aside" in reasons
    assert "shop/products/twice.csv is set aside: its header names a column twice: 'Price'" in reasons
    assert "shop/products/wide.csv is set aside" in reasons
    # Mended under the same name: another file, loaded; nothing else is loaded again.
    deliver(shell, "cut.csv.gz", gzip.compress(b"ProductID,Category,Price,StockAvailability\np9,Toys,5.00,3\n"))
    again = shell.ok("ingest", "--only", "shop_products")["tables"]["bronze.shop_products"]
    assert (again["files_new"], again["files_loaded"], again["rows_in"]) == (1, 1, 1)


def test_what_is_wrong_is_one_line_with_the_right_exit_code(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("ingest")
    assert (done.returncode, one_line(done.stdout)) == (
        64,
        f"ingest: {shell.landing}: no such folder Point --landing at the folder with the sources.",
    )
    shell.landing.mkdir()
    done = shell.run("ingest")
    assert done.returncode == 64
    assert one_line(done.stdout).startswith(f"ingest: {shell.landing}: has none of the sources' folders Expected are: ")
    deliver(shell, "a.csv", PRODUCTS.encode())
    done = shell.run("ingest", "--only", "shop")
    assert done.returncode == 64
    assert one_line(done.stdout).startswith(f"ingest: {shell.landing}/shop/customers: no such folder")
    done = shell.run("featurize")
    assert (done.returncode, one_line(done.stdout)[:32]) == (64, "featurize: --as-of is missing Na")
    done = shell.run("merge", "--only", "nobody")
    assert (done.returncode, one_line(done.stdout)[:42]) == (64, "merge: --only nobody: no such entity Known")
    assert shell.report("merge")["status"] == "failed"


def test_a_select_that_does_not_run_is_a_configuration_error_that_names_it(shell: Shell, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "sources", sources)
    sql = sources / "shop/products.sql"
    sql.write_text(sql.read_text().replace("Category ", "Kategorie "))
    deliver(shell, "a.csv", PRODUCTS.encode())
    shell.ok("ingest", "--only", "shop_products")
    done = shell.run("validate", "--sources", str(sources))
    assert done.returncode == 78
    assert "sources/shop/products.sql" in one_line(done.stdout)
    identity = DeltaTable(str(shell.warehouse / "ops/progress")).metadata().id
    assert shell.report("ingest")["warehouse_id"] == shell.report("validate")["warehouse_id"] == identity
    # The warehouse of a run is the one that it began with.
    done = shell.run("validate", "--warehouse-id", "another")
    assert done.returncode == 78
    assert one_line(done.stdout).startswith(
        f"validate: {shell.warehouse}: another warehouse than the one that this run began with: its id is {identity}"
    )
    # Mended, the same batch goes through.
    facts = shell.ok("validate", "--warehouse-id", str(identity))["tables"]["staged.products"]
    assert (facts["rows_in"], facts["rows_accepted"], facts["rows_quarantined"]) == (2, 1, 1)


def test_a_batch_with_too_many_bad_rows_is_refused_and_can_be_released(shell: Shell) -> None:
    header = "ProductID,Category,Price,StockAvailability\n"
    bad = header + "".join(f"b{n},Toys,x,3\n" for n in range(60)) + "".join(f"g{n},Toys,1.00,3\n" for n in range(50))
    deliver(shell, "bad.csv", bad.encode())
    shell.ok("ingest", "--only", "shop_products")
    done = shell.run("validate")
    assert done.returncode == 65
    line = one_line(done.stdout)
    assert "batch 1 of shop_products: 60 of 110 products rows are rejected, more than 50%" in line
    assert "cast:price 60" in line
    assert "--release" in line
    assert DeltaTable(str(shell.warehouse / "staged/products")).to_pyarrow_table().num_rows == 0
    assert not (shell.warehouse / "quarantine/products").exists()
    released = shell.ok("validate", "--release", "1")["tables"]["staged.products"]
    assert (released["rows_in"], released["rows_accepted"], released["rows_quarantined"]) == (110, 50, 60)


def test_a_signal_ends_a_stage_and_the_next_run_goes_on(shell: Shell) -> None:
    deliver(shell, "a.csv", PRODUCTS.encode())
    process = shell.start("ingest", "--only", "shop_products")
    time.sleep(9)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode != 0, output
    assert shell.ok("ingest", "--only", "shop_products")
    assert shell.ok("validate")["tables"]["staged.products"]["rows_in"] == 2
