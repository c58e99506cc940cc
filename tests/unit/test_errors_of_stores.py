"""What object stores say, by their own libraries, as errors of ours."""

from __future__ import annotations

import pytest
from lakehouse.errors import named, without_answer


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (
            "Kernel error -> Generic S3 error\n   \x1b[31m\u21b3\x1b[0m Error performing GET http://x/_last_checkpoint\n"
            "  \x1b[31m\u21b3\x1b[0m Connection refused (os error 111)\n",
            69,
            "the object store does not answer: Generic S3 error Error performing GET http://x/_last_checkpoint Connection refused",
        ),
        ("Generic S3 error: NoSuchBucket", 78, "there is no such bucket"),
        ("Kernel error -> Operation not supported\n no credentials found in chain. Attempted:", 78, "refuses access"),
        ("o1.save.\n: java.nio.file.AccessDeniedException: s3a://a/b: getFileStatus", 78, "refuses access"),
        (
            "o1.save.\n: org.apache.hadoop.fs.s3a.UnknownStoreException: s3://a/b: Bucket does not exist",
            78,
            "no such bucket",
        ),
        (
            "software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: reset",
            69,
            "not answer",
        ),
        ("When reading information for key 'a': AWS Error SLOW_DOWN during HeadObject operation", 69, "not answer"),
        (
            "o1.load.\nClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found",
            78,
            "make setup WITH=s3",
        ),
    ],
)
def test_what_an_object_store_says(said: str, code: int, words: str) -> None:
    error = named(OSError(said))
    assert error is not None
    assert error.exit_code == code
    assert words in str(error)


@pytest.mark.parametrize(
    "value",
    ["Generic S3 error", "ExpiredToken", "NoSuchBucket", "AWSClientIOException", "no credentials found in chain"],
)
def test_a_value_that_reads_like_a_stores_word_is_none(value: str) -> None:
    assert named(ValueError(f"[CAST_INVALID_INPUT] The value '{value}' of the type \"STRING\" cannot be cast")) is None


def test_what_a_store_answers_is_not_quoted_but_for_its_code() -> None:
    answer = (
        "Generic S3 error: Server returned non-2xx status code 400: <?xml version='1.0'?><Error><Code>ExpiredToken</Code>"
        "<Message>old</Message><Token-0>the-token</Token-0></Error>"
    )
    error = named(OSError(answer))
    assert error is not None
    assert (error.exit_code, "ExpiredToken" in str(error), "the-token" in str(error)) == (78, True, False)
    assert "the-token" not in without_answer(answer)


@pytest.mark.parametrize("status", [301, 403, 501])
def test_what_no_other_try_can_mend_is_no_service_that_is_away(status: int) -> None:
    error = named(OSError(f"Generic S3 error: Error performing PUT: Server returned non-2xx status code {status} x"))
    assert error is not None
    assert error.exit_code == 78


def test_a_file_of_this_machine_that_may_not_be_read_is_no_store() -> None:
    assert named(ValueError("o1.load.\n: java.nio.file.AccessDeniedException: /data/a.csv")) is None
