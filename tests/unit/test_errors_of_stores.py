"""What object stores say, by their own libraries, as errors of ours."""

from __future__ import annotations

import pytest
from lakehouse.errors import named


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
        ("o1.save.\n: java.nio.file.AccessDeniedException: s3://a/b: getFileStatus", 78, "refuses access"),
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
