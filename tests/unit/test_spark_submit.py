"""What the project's spark-submit hands to Spark's own: with which settings, which archive, and which compiler."""

from __future__ import annotations

from pathlib import Path

import pytest
import spark_submit
from spark_submit import QUICK, has_little_to_do, prepared


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout after set-up, as far as spark-submit looks at it; returns its folder."""
    for folder in ("conf", "spark/conf", "jvm/conf"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "jvm/classes.jsa").write_bytes(b"12345")
    (tmp_path / "jvm/made").write_text("1 2 5\n")
    monkeypatch.setattr(spark_submit, "CONF", tmp_path / "conf")
    monkeypatch.setattr(spark_submit, "SPARK", tmp_path / "spark")
    monkeypatch.setattr(spark_submit, "ARCHIVE", tmp_path / "jvm/classes.jsa")
    monkeypatch.setattr(spark_submit, "MADE", tmp_path / "jvm/made")
    monkeypatch.setattr(spark_submit, "EMPTY", tmp_path / "jvm/conf")
    return tmp_path


def test_the_settings_come_by_name_and_the_archive_with_them(set_up: Path) -> None:
    arguments, environment = prepared(["--master", "local[2]", "a.py", "--x"], {"HOME": "/home/me"})
    assert arguments == ["--properties-file", str(set_up / "conf/spark-defaults.conf"), "--master", "local[2]", "a.py", "--x"]  # fmt: skip
    assert environment["SPARK_CONF_DIR"] == str(set_up / "jvm/conf")
    assert environment["HOME"] == "/home/me"
    options = environment["SPARK_SUBMIT_OPTS"]
    assert f'"-XX:SharedArchiveFile={set_up}/jvm/classes.jsa"' in options
    assert f'"-Dlog4j2.configurationFile=file://{set_up}/conf/log4j2.properties"' in options


def test_what_the_caller_says_of_the_jvm_comes_last(set_up: Path) -> None:
    _, environment = prepared(["a.py"], {"SPARK_SUBMIT_OPTS": "-Xshare:off", "LAKEHOUSE_WORK": "little"})
    assert environment["SPARK_SUBMIT_OPTS"].endswith(f"{QUICK} -Xshare:off")


@pytest.mark.parametrize(
    "options",
    [["--properties-file", "mine.conf"], ["--properties-file=mine.conf"], ["--load-spark-defaults"]],
)
def test_settings_of_ones_own_are_left_alone(set_up: Path, options: list[str]) -> None:
    arguments, environment = prepared([*options, "a.py"], {})
    assert arguments == [*options, "a.py"]
    assert "SPARK_CONF_DIR" not in environment


def test_an_argument_of_the_application_is_no_option_of_spark(set_up: Path) -> None:
    arguments, _ = prepared(["--verbose", "--conf", "a=b", "a.py", "--properties-file", "x"], {})
    assert arguments[:2] == ["--properties-file", str(set_up / "conf/spark-defaults.conf")]


def test_another_spark_is_started_as_it_is(set_up: Path) -> None:
    given = {"SPARK_HOME": str(set_up), "LAKEHOUSE_WORK": "little"}
    assert prepared(["a.py"], given) == (["a.py"], given | {"PYTHONHASHSEED": "0"})


def test_another_folder_of_settings_is_used(set_up: Path) -> None:
    arguments, environment = prepared(["a.py"], {"SPARK_CONF_DIR": str(set_up / "mine")})
    assert (arguments, environment["SPARK_CONF_DIR"]) == (["a.py"], str(set_up / "mine"))


def test_a_spark_submit_within_another_ones_environment_is_like_the_first(set_up: Path) -> None:
    _, environment = prepared(["a.py"], {})
    environment.pop("SPARK_SUBMIT_OPTS")
    assert prepared(["a.py"], environment)[0][0] == "--properties-file"


@pytest.mark.parametrize("missing", ["jvm/classes.jsa", "jvm/made", "jvm/conf"])
def test_without_an_archive_spark_finds_its_folder_as_ever(set_up: Path, missing: str) -> None:
    (set_up / missing).rename(set_up / "gone")
    arguments, environment = prepared(["a.py"], {})
    assert (arguments, environment["SPARK_SUBMIT_OPTS"]) == (["a.py"], "")


def test_an_archive_that_is_cut_short_is_not_used(set_up: Path) -> None:
    (set_up / "jvm/classes.jsa").write_bytes(b"1234")
    assert prepared(["a.py"], {})[0] == ["a.py"]


@pytest.mark.parametrize("name", ["hive-site.xml", "spark-env.sh", "metrics.properties"])
def test_files_that_are_found_by_their_folder_keep_it_on_the_class_path(set_up: Path, name: str) -> None:
    (set_up / "conf" / name).touch()
    arguments, environment = prepared(["a.py"], {})
    assert (arguments, environment["SPARK_SUBMIT_OPTS"]) == (["a.py"], "")


def test_a_run_that_makes_an_archive_has_the_same_class_path_and_uses_none(set_up: Path) -> None:
    (set_up / "jvm/classes.jsa").unlink()
    arguments, environment = prepared(["a.py"], {"SPARK_SUBMIT_OPTS": "-XX:ArchiveClassesAtExit=x"})
    assert arguments[0] == "--properties-file"
    assert "SharedArchiveFile" not in environment["SPARK_SUBMIT_OPTS"]


class TestWork:
    """How much a stage has to do is told by the files that it works on."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with six bytes, where seven are much."""
        monkeypatch.setattr(spark_submit, "LITTLE", 6)
        for name in ("a/x", "b/c/y"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_bytes(b"123")
        return tmp_path

    def test_files_up_to_the_limit_are_little(self, folder: Path) -> None:
        assert has_little_to_do("spark_jobs/ingest.py", ["--landing", str(folder)], {})
        (folder / "b/z").write_bytes(b"1")
        assert not has_little_to_do("spark_jobs/ingest.py", ["--landing", str(folder)], {})

    def test_each_stage_has_its_own_files(self, folder: Path) -> None:
        (folder / "a/z").write_bytes(b"1234567")
        both = ["--warehouse", str(folder / "a"), f"--landing={folder}/b"]
        assert has_little_to_do("ingest.py", both, {})
        assert not has_little_to_do("merge.py", both, {})

    def test_the_environment_names_folders_as_it_does_for_the_stages(self, folder: Path) -> None:
        assert has_little_to_do("merge.py", [], {"LAKEHOUSE_WAREHOUSE": str(folder)})
        (folder / "z").write_bytes(b"1")
        assert not has_little_to_do("merge.py", [], {"LAKEHOUSE_WAREHOUSE": str(folder)})

    @pytest.mark.parametrize("place", ["s3a://bucket/lake", "file:/lake", "catalog:main", ""])
    def test_what_cannot_be_told_is_much(self, place: str) -> None:
        assert not has_little_to_do("merge.py", ["--warehouse", place], {})

    def test_other_scripts_and_several_instants_are_much(self, folder: Path) -> None:
        assert not has_little_to_do("stream.py", ["--warehouse", str(folder)], {})
        assert not has_little_to_do("featurize.py", ["--warehouse", str(folder), "--start", "2026-03-01"], {})

    def test_who_knows_better_says_so(self, folder: Path) -> None:
        assert has_little_to_do("stream.py", [], {"LAKEHOUSE_WORK": "little"})
        assert not has_little_to_do("merge.py", ["--warehouse", str(folder)], {"LAKEHOUSE_WORK": "much"})
