"""The clean shop: customers and products that change, sessions of interactions, purchases that follow them.

Every frame has the source's own columns as text, ``key``, ``day`` (days since the start, on which
the row is delivered) and ``clean`` (false for rows whose loss or delay would touch others, so that
they are never made dirty).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.synthetic.randomness import Dice

COUNTRIES = ("Germany", "France", "Spain", "Italy", "Poland", "Austria")
CATEGORIES = ("Books", "Garden", "Kitchen", "Music", "Office", "Outdoor", "Sports", "Toys")
PAYMENTS = ("card", "invoice", "paypal", "transfer")
EVENTS_PER_SESSION = 6.0
DAY = 86_400


@dataclass(frozen=True)
class Scale:
    """How large the shop is. ``rows`` is the approximate number of all rows delivered."""

    rows: int
    days: int
    start: date

    @property
    def customers(self) -> int:
        return max(20, self.rows // 50)

    @property
    def products(self) -> int:
        return max(20, min(200_000, self.rows // 100))

    @property
    def sessions(self) -> int:
        return max(10, int(self.rows * 0.84 / EVENTS_PER_SESSION))


class Shop:
    """The frames of one shop."""

    def __init__(self, spark: SparkSession, scale: Scale, dice: Dice) -> None:
        self._spark, self._scale, self._dice = spark, scale, dice

    def customers(self) -> DataFrame:
        """Each customer's registration and up to two later changes."""
        d, days = self._dice, self._scale.days
        customers = self._spark.range(self._scale.customers).withColumn("joined", self._joined(F.col("id")))
        versions = customers.withColumn(
            "version", F.explode(F.sequence(F.lit(0), d.below(3, "customer versions", "id").cast("int")))
        )
        first = F.col("version") == 0
        later = (
            F.col("joined")
            + 1
            + d.below(F.greatest(F.lit(1), days - 1 - F.col("joined")), "customer change", "id", "version")
        )
        day = F.when(first, F.greatest(F.lit(0), F.col("joined"))).otherwise(F.greatest(F.lit(1), later))
        registered = F.col("joined") * DAY + d.below(DAY // 2, "registered", "id")
        changed = F.when(first, registered).otherwise(
            F.col("day") * DAY + d.below(DAY, "customer changed", "id", "version")
        )
        return (
            versions.withColumn("day", day)
            .where(F.col("day") < days)
            .withColumn("changed", changed)
            .select(
                numbered("C", F.col("id")).alias("CustomerID"),
                F.concat(F.lit("Customer "), F.col("id")).alias("Name"),
                F.concat(F.lit("customer"), F.col("id"), F.lit("."), F.col("version"), F.lit("@shop.example")).alias(
                    "Email"
                ),
                self._instant(registered).alias("RegistrationDate"),
                F.when(d.chance(0.2, "premium", "id") | (F.col("version") == 2), "premium")
                .otherwise("regular")
                .alias("CustomerType"),
                d.pick(COUNTRIES, "country", "id", "version").alias("Country"),
                self._instant(F.col("changed")).alias("LastActiveDate"),
                self._instant(F.col("changed")).alias("UpdatedAt"),
                F.lit(None).cast("string").alias("op"),
                F.concat_ws("#", numbered("C", F.col("id")), "version").alias("key"),
                F.col("day").cast("int").alias("day"),
                (~first).alias("clean"),
            )
        )

    def products(self) -> DataFrame:
        """Each product and up to three later changes of price and stock."""
        d, days = self._dice, self._scale.days
        versions = self._spark.range(self._scale.products).withColumn(
            "version", F.explode(F.sequence(F.lit(0), d.below(4, "product versions", "id").cast("int")))
        )
        day = F.when(F.col("version") == 0, 0).otherwise(
            1 + d.below(max(1, days - 1), "product change", "id", "version")
        )
        return (
            versions.withColumn("day", day)
            .where(F.col("day") < days)
            .select(
                numbered("P", F.col("id")).alias("ProductID"),
                d.pick(CATEGORIES, "category", "id").alias("Category"),
                self._price(F.col("id"), F.col("version")).cast("string").alias("Price"),
                d.below(500, "stock", "id", "version").cast("string").alias("StockAvailability"),
                self._instant(
                    F.col("day") * DAY
                    + F.when(F.col("version") == 0, 0).otherwise(d.below(DAY, "product changed", "id", "version"))
                ).alias("UpdatedAt"),
                F.lit(None).cast("string").alias("op"),
                F.concat_ws("#", numbered("P", F.col("id")), "version").alias("key"),
                F.col("day").cast("int").alias("day"),
                (F.col("version") > 0).alias("clean"),
            )
        )

    def interactions(self) -> DataFrame:
        """Sessions of views, clicks and additions to the cart; one event in fifty is a guest's."""
        d = self._dice
        kind = d.uniform("type", "session", "n")
        product = numbered("P", F.col("product"))
        guest = d.chance(0.02, "guest", "session", "n")
        return (
            self._events()
            .select(
                F.concat_ws("-", numbered("I", F.col("session")), "n").alias("InteractionID"),
                F.when(~guest, numbered("C", F.col("customer"))).alias("CustomerID"),
                F.when(kind < 0.7, "view").when(kind < 0.9, "click").otherwise("add_to_cart").alias("InteractionType"),
                self._instant(F.col("at")).alias("Timestamp"),
                F.when(F.col("n") % 2 == 0, F.concat(F.lit("/product/"), product)).otherwise("/search").alias("Page"),
                F.when(d.chance(0.4, "app", "session"), "mobile_app").otherwise("website").alias("Source"),
                F.when(F.col("n") % 2 == 1, F.to_json(F.struct(product.alias("product_id")))).alias("Metadata"),
                F.concat_ws("-", numbered("I", F.col("session")), "n").alias("key"),
                F.floor(F.col("at") / DAY).cast("int").alias("day"),
                (~guest).alias("clean"),
            )
            .where((F.col("day") >= 0) & (F.col("day") < self._scale.days))
        )

    def transactions(self) -> DataFrame:
        """Purchases of viewed products, minutes to weeks after the view; some are cancelled days later."""
        d, days = self._dice, self._scale.days
        bought = self._events().where(d.chance(0.15, "buys", "session", "n"))
        soon = d.chance(0.7, "soon", "session", "n")
        delay = F.when(soon, 60 + d.below(3_600, "minutes", "session", "n")).otherwise(
            d.below(20 * DAY, "weeks", "session", "n")
        )
        lines = (
            bought.withColumn("bought", F.col("at") + delay)
            .withColumn("cancelled", d.chance(0.05, "cancelled", "session", "n"))
            .withColumn(
                "version",
                F.explode(F.when(F.col("cancelled"), F.array(F.lit(0), F.lit(1))).otherwise(F.array(F.lit(0)))),
            )
            .withColumn(
                "changed",
                F.col("bought")
                + F.when(F.col("version") == 1, DAY + d.below(4 * DAY, "cancel", "session", "n")).otherwise(0),
            )
            .withColumn("day", F.floor(F.col("changed") / DAY).cast("int"))
        )
        amount = self._price(F.col("product"), F.lit(0)) * (1 + d.below(3, "quantity", "session", "n")).cast(
            "decimal(4,0)"
        )
        identity = F.concat_ws("-", numbered("T", F.col("session")), "n")
        return lines.where((F.col("day") >= 0) & (F.col("day") < days)).select(
            identity.alias("TransactionID"),
            numbered("O", F.col("session")).alias("OrderID"),
            numbered("C", F.col("customer")).alias("CustomerID"),
            numbered("P", F.col("product")).alias("ProductID"),
            self._instant(F.col("bought")).alias("Date"),
            amount.cast("decimal(18,2)").cast("string").alias("Amount"),
            d.pick(PAYMENTS, "payment", "session").alias("PaymentMethod"),
            F.when((F.col("version") == 1) | d.chance(0.02, "at once", "session", "n"), "Cancelled")
            .otherwise("Completed")
            .alias("TransactionStatus"),
            self._instant(F.col("changed")).alias("UpdatedAt"),
            F.lit(None).cast("string").alias("op"),
            F.concat_ws("#", identity, "version").alias("key"),
            "day",
            (~F.col("cancelled")).alias("clean"),
            # Where a cancellation follows, the original may be delivered after it.
            F.when(
                F.col("cancelled") & (F.col("version") == 0),
                F.floor((F.col("bought") + DAY + d.below(4 * DAY, "cancel", "session", "n")) / DAY) + 1,
            )
            .cast("int")
            .alias("day_out_of_order"),
        )

    def _events(self) -> DataFrame:
        """session, customer, n, product, at (seconds since the start)."""
        d, scale = self._dice, self._scale
        # Weekdays differ, and evenings are busier: days and hours come in bursts.
        day = F.floor(F.pow(d.uniform("day", "session"), F.lit(0.9)) * scale.days)
        hour = F.floor(24 * F.pow(d.uniform("hour", "session"), F.lit(0.6)))
        length = 1 + F.floor(-F.log(1 - d.uniform("length", "session")) * (EVENTS_PER_SESSION - 0.5))
        anyone = d.zipf(scale.customers, "customer", "session")
        sessions = (
            self._spark.range(scale.sessions)
            .withColumnRenamed("id", "session")
            .select(
                "session",
                anyone.alias("anyone"),
                day.alias("start_day"),
                (hour * 3600 + d.below(3600, "second", "session")).alias("second"),
                F.least(length, F.lit(60)).cast("int").alias("length"),
            )
            # Who has not joined yet leaves the session to a neighbour who has always been there.
            .withColumn(
                "customer",
                F.when(self._joined(F.col("anyone")) < F.col("start_day"), F.col("anyone")).otherwise(
                    F.greatest(F.col("anyone") - F.col("anyone") % 5 + 1, F.lit(1))
                ),
            )
            .withColumn("n", F.explode(F.sequence(F.lit(1), F.col("length"))))
        )
        return sessions.select(
            "session",
            "customer",
            "n",
            d.zipf(scale.products, "product", "session", F.floor(F.col("n") / 2)).alias("product"),
            (F.col("start_day") * DAY + F.col("second") + F.col("n") * 40 + d.below(35, "pause", "session", "n")).alias(
                "at"
            ),
        )

    def _joined(self, customer: Column) -> Column:
        """The day on which a customer joined: every fifth during the period, the others before it."""
        d = self._dice
        before = -1 - d.below(400, "joined before", customer)
        return F.when((customer % 5 == 0) & (customer > 0), d.below(self._scale.days, "joined", customer)).otherwise(
            before
        )

    def _price(self, product: Column, version: Column) -> Column:
        cents = 199 + self._dice.below(9_800, "price", product) + version * 25
        return (cents.cast("decimal(12,0)") / 100).cast("decimal(12,2)")

    def _instant(self, seconds: Column) -> Column:
        midnight = F.unix_seconds(F.lit(self._scale.start.isoformat()).cast("timestamp"))
        return F.date_format(F.timestamp_seconds(midnight + seconds), "yyyy-MM-dd'T'HH:mm:ss'Z'")


def numbered(letter: str, number: Column) -> Column:
    """An id: a letter and at least seven digits."""
    digits = number.cast("string")
    # Padded to seven, what is longer would be cut off.
    return F.concat(F.lit(letter), F.lpad(digits, F.greatest(F.lit(7), F.length(digits)), F.lit("0")))
