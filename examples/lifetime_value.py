"""What customers will spend: BG/NBD and Gamma-Gamma on gold's rfm columns, judged on what they did spend.

The models are those of Fader, Hardie and Lee ("Counting Your Customers" the Easy Way, 2005) and of Fader and
Hardie (The Gamma-Gamma Model of Monetary Value, 2013), as the library lifetimes fits them. They are fitted on
the last cut-off itself: they need no labels. The baselines know the same purchases.
"""

from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from gold import arguments, hold_out, show, training_set
from lifetimes import BetaGeoFitter, GammaGammaFitter

HORIZON_DAYS = 90


def main() -> None:
    options = arguments(__doc__ or "")
    train, test = hold_out(training_set(options.warehouse, options.set))
    buyers = test[test["rfm_t"].notna() & (test["rfm_t"] > 0)].copy()
    predicted = {
        "the mean of the earlier cut-offs": np.full(len(buyers), train["future_spend"].mean()),
        "spend so far, at the same rate": (buyers["total_spend"] / buyers["rfm_t"] * HORIZON_DAYS).to_numpy(),
        "spend of the last 90 days again": buyers["spend_90d"].to_numpy(),
        "BG/NBD and Gamma-Gamma": expected_spend(buyers),
    }
    actual = buyers["future_spend"].to_numpy()
    show(
        f"Spend within {HORIZON_DAYS} days of {test['as_of'].iloc[0]:%Y-%m-%d}: {len(buyers):,} customers with a "
        f"purchase, {actual.sum():,.0f} in all",
        [
            ("predicted from", "sum", "off by", "mean abs. error", "rank corr.", "top tenth finds"),
            *((name, *figures(actual, values)) for name, values in predicted.items()),
        ],
    )
    picture(actual, predicted).savefig(options.out / "lifetime_value.png", dpi=110)
    print(f"{options.out / 'lifetime_value.png'}")


def expected_spend(buyers: pd.DataFrame) -> np.ndarray:
    """Expected number of days with a purchase within the horizon, times the expected spend of such a day."""
    rfm = buyers[["rfm_frequency", "rfm_recency", "rfm_t"]].astype(float).to_numpy().T
    with warnings.catch_warnings():
        # The optimiser looks at values at which the likelihood is not defined.
        warnings.simplefilter("ignore", RuntimeWarning)
        # A small penalty, without which it does not converge where next to nobody seems to drop out.
        purchases = BetaGeoFitter(penalizer_coef=0.05).fit(*rfm)
        days = purchases.conditional_expected_number_of_purchases_up_to_time(HORIZON_DAYS, *rfm)
        again = buyers[(buyers["rfm_frequency"] > 0) & (buyers["rfm_monetary"] > 0)]
        # None here: one that pushes q below 1 makes the mean of all customers negative.
        value = GammaGammaFitter().fit(again["rfm_frequency"], again["rfm_monetary"])
        # Who came once has no repeat purchase to learn from, and gets the mean of all.
        spend = value.conditional_expected_average_profit(buyers["rfm_frequency"], buyers["rfm_monetary"].clip(lower=0))
    return np.asarray(days) * spend.to_numpy()


def figures(actual: np.ndarray, predicted: np.ndarray) -> tuple[str, ...]:
    """Sum, its relative error, mean absolute error, Spearman's correlation, and the share of all spend that the tenth
    of the customers with the highest prediction makes up."""
    constant = np.ptp(predicted) == 0
    rank = np.nan if constant else pd.Series(predicted).corr(pd.Series(actual), method="spearman")
    top = np.argsort(-predicted, kind="stable")[: len(actual) // 10]
    return (
        f"{predicted.sum():,.0f}",
        f"{predicted.sum() / actual.sum() - 1:+.1%}",
        f"{np.abs(predicted - actual).mean():,.1f}",
        "" if constant else f"{rank:.3f}",
        "" if constant else f"{actual[top].sum() / actual.sum():.1%}",
    )


def picture(actual: np.ndarray, predicted: dict[str, np.ndarray]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    share = np.arange(1, len(actual) + 1) / len(actual)
    for name, values in [*list(predicted.items())[1:], ("what they did spend", actual)]:
        order = np.argsort(-values, kind="stable")
        axes.plot(share, np.cumsum(actual[order]) / actual.sum(), label=name)
    axes.set(
        title="Spend found among the customers ranked highest", xlabel="share of customers", ylabel="share of spend"
    )
    axes.legend(loc="lower right")
    return figure


if __name__ == "__main__":
    main()
