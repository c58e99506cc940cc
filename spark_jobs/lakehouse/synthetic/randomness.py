"""Random numbers as functions of a row's identity, so that the same seed gives the same shop at any parallelism."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F


class Dice:
    """Throws that depend on nothing but the seed, a name and the columns given."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def uniform(self, name: str, *of: Column | str) -> Column:
        """A double in [0, 1)."""
        hashed = F.xxhash64(F.lit(self._seed), F.lit(name), *of)
        return F.pmod(F.shiftrightunsigned(hashed, 11), F.lit(1 << 53)) / F.lit(float(1 << 53))

    def below(self, limit: Column | int, name: str, *of: Column | str) -> Column:
        """A whole number in [0, limit)."""
        return F.floor(self.uniform(name, *of) * limit).cast("bigint")

    def zipf(self, limit: int, name: str, *of: Column | str) -> Column:
        """A whole number in [0, limit), of which n comes up about in proportion to 1 / (n + 1)."""
        exponential = F.exp(self.uniform(name, *of) * F.log(F.lit(float(limit + 1))))
        return F.least(F.floor(exponential) - 1, F.lit(limit - 1)).cast("bigint")

    def pick(self, values: Sequence[str], name: str, *of: Column | str) -> Column:
        """One of the values, each equally likely."""
        return F.element_at(F.array(*[F.lit(v) for v in values]), (self.below(len(values), name, *of) + 1).cast("int"))

    def chance(self, share: float, name: str, *of: Column | str) -> Column:
        return self.uniform(name, *of) < share
