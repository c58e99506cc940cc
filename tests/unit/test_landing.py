"""Discovery, on real files."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lakehouse.errors import UsageError
from lakehouse.ingestion.landing import LandedFile, Landing
from support import an_input

SOURCE = an_input()


def put(root: Path, name: str, content: bytes = b"a,b\n1,2\n") -> Path:
    file = root / "shop/products" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_finds_files_in_all_subfolders_and_passes_over_what_is_to_be_ignored(tmp_path: Path) -> None:
    for name in (
        "b.csv",
        "2026/03/a.csv",
        "x.tmp",
        "y.part",
        ".hidden",
        "_work/c.csv",
        ".crc/d",
        "z.crc",
        "n ame+%.csv",
    ):
        put(tmp_path, name)
    os.utime(tmp_path / "shop/products/b.csv", ns=(0, 1_600_000_000_123_456_789))
    found = Landing(str(tmp_path)).find(SOURCE)
    assert found is not None
    assert [f.path for f in found] == [
        "shop/products/2026/03/a.csv",
        "shop/products/b.csv",
        "shop/products/n ame+%.csv",
    ]
    assert found[1] == LandedFile("shop/products/b.csv", 8, datetime(2020, 9, 13, 12, 26, 40, 123000, tzinfo=UTC))


def test_what_cannot_be_loaded_is_told_and_the_rest_is_found(tmp_path: Path) -> None:
    put(tmp_path, "a.csv"), put(tmp_path, "2026/b.csv"), put(tmp_path, "late.csv._COPYING_")
    folder = tmp_path / "shop/products"
    (folder / "2026/round").symlink_to(folder)
    (folder / "gone.csv").symlink_to(folder / "nowhere.csv")
    (folder / "linked.csv").symlink_to(folder / "a.csv")
    (folder / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.csv").write_bytes(b"a,b\n")
    os.mkfifo(folder / "pipe.csv")
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.csv"))).write_bytes(b"a,b\n")
    told: list[str] = []
    found = Landing(str(tmp_path)).find(SOURCE, told.append)
    names = ["2026/b.csv", "a.csv", "linked.csv", "other/c.csv"]
    assert [f.path for f in found or ()] == [f"shop/products/{name}" for name in names]
    assert sorted(told) == [
        r"shop/products/caf\udce9.csv has a name that is not UTF-8: rename it",
        "shop/products/gone.csv is a link to nothing",
        "shop/products/pipe.csv is no file",
    ]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/products").write_bytes(b"a,b\n1,2\n")
    told: list[str] = []
    assert Landing(str(tmp_path)).find(SOURCE, told.append) is None
    assert told == ["shop/products is a file, where the input's folder should be"]


def test_folders_of_any_depth(tmp_path: Path) -> None:
    put(tmp_path, "a.csv")
    at = os.open(tmp_path / "shop/products", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=at)
        at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(os.open("b.csv", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    try:
        found = Landing(str(tmp_path)).find(SOURCE)
    finally:
        # Python's own removal of folders goes as deep as its calls may.
        subprocess.run(["rm", "-rf", str(tmp_path / "shop/products/d")], check=True)
    assert [f.path for f in found or ()] == ["shop/products/a.csv", f"shop/products/{'d/' * 1200}b.csv"]


@pytest.mark.parametrize("name", ["[prod] {2026}", "back\\slash", "co:lon", "star*?"])
def test_an_address_for_spark_is_no_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    escaped = {"[prod] {2026}": r"\[prod\] \{2026\}", "back\\slash": "back\\\\slash", "star*?": r"star\*\?"}
    assert Landing(str(tmp_path / name)).uri("a.csv") == f"{tmp_path}/{escaped.get(name, name)}/a.csv"


def test_a_pattern_chooses_files_by_name(tmp_path: Path) -> None:
    put(tmp_path, "products_1.csv"), put(tmp_path, "events_1.csv")
    found = Landing(str(tmp_path)).find(replace(SOURCE, pattern="products*"))
    assert [f.path for f in found or ()] == ["shop/products/products_1.csv"]


def test_no_folder_for_the_input_is_not_an_error_but_no_landing_folder_is(tmp_path: Path) -> None:
    assert Landing(str(tmp_path)).find(SOURCE) is None
    with pytest.raises(UsageError, match="no such folder"):
        Landing(str(tmp_path / "nowhere"))


def test_a_file_is_archived_under_its_time_unless_another_has_taken_its_place(tmp_path: Path) -> None:
    os.utime(put(tmp_path, "2026/a.csv"), ns=(0, 1_600_000_000_123_000_000))
    put(tmp_path, "b.csv")
    landing = Landing(str(tmp_path))
    first, second = landing.find(SOURCE) or ()
    put(tmp_path, "b.csv", b"a,b\n3,4\n5,6\n")
    for file in (first, second):
        landing.archive(file)
    assert [f.path for f in landing.find(SOURCE) or ()] == ["shop/products/b.csv"]
    archived = tmp_path / "_archive/shop/products/2026/20200913T122640.123000Z_a.csv"
    assert archived.read_bytes() == b"a,b\n1,2\n"
    landing.archive(first)  # again: it has gone, and that is no error
    landing.delete(second)
    assert (tmp_path / "shop/products/b.csv").exists()
    (second,) = landing.find(SOURCE) or ()
    landing.delete(second)
    assert landing.find(SOURCE) == []


def test_the_hash_is_that_of_the_bytes_as_they_lie_there(tmp_path: Path) -> None:
    content = gzip.compress(b"a,b\n1,2\n")
    put(tmp_path, "x.csv.gz", content)
    landing = Landing(str(tmp_path))
    files = landing.find(SOURCE) or []
    assert [f.sha256 for f in landing.with_hash(files)] == [hashlib.sha256(content).hexdigest()]
    (tmp_path / "shop/products/x.csv.gz").unlink()
    assert [f.sha256 for f in landing.with_hash(files)] == [None]
