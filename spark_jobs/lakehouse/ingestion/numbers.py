"""Numbers as text, the same whichever type a writer gave them."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

PLAIN = "decimal(38,18)"
FROM, BELOW = 1e7, 1e18
"""Between these, Spark writes a double with an exponent, and digits without one are as exact."""


def number_text(value: Column) -> Column:
    """A float or double as text: without ``.0`` when it is a whole number, without exponent below 10^18.

    So an identifier that was made a double (pandas does, of a column with a null in it) is the same text as in CSV.
    """
    text = F.when(value == 0, "0").otherwise(value.cast("string"))
    plain = F.when(F.abs(value).between(FROM, BELOW), text.try_cast(PLAIN).cast("string"))
    fraction = F.regexp_replace(F.coalesce(plain, text), r"(\.\d*?)0+$", "$1")
    return F.regexp_replace(fraction, r"\.$", "")
