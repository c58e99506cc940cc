"""What a source's SELECT may call beside Spark's own functions.

``computed(value, array(received, ...))``: a value of a column that is not text, with what it is computed from. It is the value as
text where there is one; null, which is a missing value, where nothing was received; and else a text that no type reads, so
that the contract rejects the row and says from what the value could not be computed.
"""

from __future__ import annotations

from threading import Lock
from weakref import WeakSet

from pyspark.sql import SparkSession

from lakehouse.sql import literal
from lakehouse.validation.values import WHITE_SPACE

# Not the received text itself: it may well read as a value of the type, and would then be a wrong one.
COMPUTED = f"""
CREATE OR REPLACE TEMPORARY FUNCTION computed(value STRING, received ARRAY<STRING>) RETURNS STRING
RETURN CASE
  WHEN value IS NOT NULL THEN value
  WHEN btrim(array_join(received, ''), {literal(WHITE_SPACE)}) <> ''
  THEN concat('cannot be computed from ', array_join(received, ', ', '(missing)'))
END
"""

_have: WeakSet[SparkSession] = WeakSet()
_registering = Lock()


def register(spark: SparkSession) -> None:
    """Have a session know them."""
    with _registering:
        if spark not in _have:
            spark.sql(COMPUTED)
            _have.add(spark)
