"""What names the definitions of gold: the results that they give, and not their source text.

A snapshot and a training set remember by which definitions they were made. Each table's version is the digest of its
rows for fixed deliveries (``tests/spark/test_definitions.py``): whatever changes a result there changes the version, in
whichever module it stands, and a comment or a name does not. A change that the fixed deliveries do not show must be shown by
new ones: add them, and the version changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.contracts import Contract
from lakehouse.features.timelines import FROM, TO

VERSIONS = {
    "category_preferences": "5bc55f4eddce9e2a",
    "customer_days": "cf86cf1f88efa7d4",
    "customer_features": "b2502555ad2c59dc",
    "product_affinity": "cc4dd782839f4710",
    "product_features": "dc02b2f67e324f98",
    "training_sets": "0e39206fa3667a8a",
}
"""By table of gold, the digest of its rows for the fixed deliveries; ``training_sets`` is that of a set with its labels."""

FROM_SOURCE_TEXT = "48e41649b64e86f1"
"""What named the definitions of all tables while source text did. They are those of today, but for ``session_count``, which
was null for a customer without interactions."""
CONTRACTS_THEN = {
    "category_preferences": "25056ba6067d800d",
    "customer_features": "fee066658693495f",
    "product_affinity": "b0458b3d697b52d7",
    "product_features": "01e22a6fdc4d11cb",
}
"""Fingerprints of the shipped contracts of gold at that time."""
COLUMNS_THEN = "c870703f5863b35b"
"""Names their columns."""


def of_gold(contracts: Mapping[str, Contract]) -> str:
    """Names what a snapshot is made by: the definitions of its tables, and their columns."""
    return fingerprint({n: VERSIONS[n] for n in contracts}, columns(contracts))


def columns(contracts: Mapping[str, Contract]) -> str:
    """Names the columns of some contracts and their types, whether a table keeps whole snapshots or timelines."""
    return fingerprint(
        {
            n: [("as_of" if c.name == FROM else c.name, c.type) for c in contract.columns if c.name != TO]
            for n, contract in contracts.items()
        }
    )


def of_days(types: Mapping[str, str]) -> str:
    """Names what a row of gold.customer_days is made by, and its columns, with their types."""
    return fingerprint(VERSIONS["customer_days"], list(types.items()))


def as_good(contracts: Mapping[str, Contract]) -> frozenset[str]:
    """``of_gold``, and the names of former definitions whose snapshots hold and can be carried over from."""
    texts = {n: c.fingerprint for n, c in contracts.items()}
    former = [texts]
    if columns(contracts) == COLUMNS_THEN:
        # A contract's text was in the name too. That of customer_features has changed with session_count, others may be a
        # deployment's own.
        former += [CONTRACTS_THEN, texts | {"customer_features": CONTRACTS_THEN["customer_features"]}]
    return frozenset([of_gold(contracts), *(fingerprint(FROM_SOURCE_TEXT, t) for t in former)])


def of_training_sets() -> str:
    """Names what a training set is made by."""
    return fingerprint(VERSIONS["training_sets"])


def can_be_made(definitions: str) -> bool:
    """Whether training sets by these definitions can be made today."""
    return definitions in (of_training_sets(), FROM_SOURCE_TEXT)


def as_defined(features: DataFrame, definitions: str) -> DataFrame:
    """Features of a training set as its definitions, today's or former ones, have them."""
    if definitions == FROM_SOURCE_TEXT:
        return features.withColumn("session_count", F.nullif(F.col("session_count"), F.lit(0)))
    return features


def fingerprint(*parts: object) -> str:
    """A short name of values that JSON has."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
