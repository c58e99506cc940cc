"""What the values of text columns could be: pure DataFrame functions, by the rules that validate reads with."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse import contracts
from lakehouse.sql import quote
from lakehouse.validation import values

TYPES = ("boolean", "int", "bigint", "double", "timestamp")
DECIMAL = "decimal"
MAX_VALUES_OF_AN_ENUM = 20
MAX_DIGITS = 18
LEADING_ZERO = r"^[+-]?0\d"
PLAIN = r"^[+-]?(\d*)[.]?(\d*)$"


@dataclass(frozen=True)
class Figures:
    """One column of a sample.

    Attributes:
        rows, given: rows in all, and those with a value that is not blank.
        distinct: about how many values.
        longest: characters.
        zeros: how many values begin with a zero that is not the whole number.
        reads_as: how many values can be read as each type, and as a plain decimal.
        whole_digits, places: the most digits before and behind a plain number's point.
        least, greatest: of the values as numbers, else as instants, as text; None for other text.
        values: the values, if they are few.
    """

    name: str
    rows: int
    given: int
    distinct: int
    longest: int
    zeros: int
    reads_as: dict[str, int]
    whole_digits: int
    places: int
    least: str | None
    greatest: str | None
    values: tuple[str, ...] = ()


def figures(texts: DataFrame) -> list[Figures]:
    """Figures of every column, in two passes: one for numbers, one for the values of columns that have few.

    Args:
        texts: columns of type string, as received.
    """
    names = texts.columns
    trimmed = texts.select(*[values.text(F.col(quote(n))).alias(f"c{i}") for i, n in enumerate(names)])
    measures = [m for i in range(len(names)) for m in _measures(f"c{i}")]
    counted = trimmed.agg(F.count(F.lit(1)).alias("rows"), *measures).first()
    assert counted is not None
    few = [i for i in range(len(names)) if 0 < counted[f"c{i} distinct"] <= MAX_VALUES_OF_AN_ENUM]
    listed = trimmed.agg(F.lit(0), *[F.sort_array(F.collect_set(f"c{i}")).alias(f"c{i}") for i in few]).first()
    assert listed is not None
    return [
        Figures(
            name=name,
            rows=counted["rows"],
            given=counted[f"c{i} given"],
            distinct=counted[f"c{i} distinct"],
            longest=counted[f"c{i} longest"] or 0,
            zeros=counted[f"c{i} zeros"],
            reads_as={t: counted[f"c{i} {t}"] for t in (*TYPES, DECIMAL)},
            whole_digits=counted[f"c{i} whole_digits"] or 0,
            places=counted[f"c{i} places"] or 0,
            least=counted[f"c{i} least"],
            greatest=counted[f"c{i} greatest"],
            values=tuple(listed[f"c{i}"]) if i in few else (),
        )
        for i, name in enumerate(names)
    ]


def repeats(texts: DataFrame, name: str) -> bool:
    """Whether a column has a value twice."""
    value = values.text(F.col(quote(name)))
    counted = texts.agg(F.count(value).alias("given"), F.count_distinct(value).alias("distinct")).first()
    assert counted is not None
    return counted["given"] != counted["distinct"]


def _measures(c: str) -> list[SparkColumn]:
    value, number = F.col(c), values.read(contracts.Column("", "double"), F.col(c))
    instant = F.date_format(values.instant(value), "yyyy-MM-dd'T'HH:mm:ssXXX")
    whole, places = (F.length(F.regexp_extract(value, PLAIN, n)) for n in (1, 2))

    def extreme(function) -> SparkColumn:  # type: ignore[no-untyped-def]
        exact = function(number.try_cast("decimal(38,12)")).cast("string")
        return F.coalesce(exact, function(instant))

    return [
        F.count(value).alias(f"{c} given"),
        F.approx_count_distinct(value).alias(f"{c} distinct"),
        F.max(F.length(value)).alias(f"{c} longest"),
        F.count_if(value.rlike(LEADING_ZERO)).alias(f"{c} zeros"),
        F.max(whole).alias(f"{c} whole_digits"),
        F.max(places).alias(f"{c} places"),
        extreme(F.min).alias(f"{c} least"),
        extreme(F.max).alias(f"{c} greatest"),
        F.count_if(number.isNotNull() & value.rlike(PLAIN)).alias(f"{c} {DECIMAL}"),
        *[F.count(values.read(contracts.Column("", t), value)).alias(f"{c} {t}") for t in TYPES],
    ]
