"""Who the customers are: clusters of gold's recency, frequency and spend, and whether they mean anything later.

A segmentation is worth something if its segments behave differently afterwards. So the clusters, made at the last
cut-off, are judged by how much of what customers did next they explain, against the segments that gold names and
against groups of the same number by spend alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from gold import arguments, hold_out, show, training_set
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import StandardScaler

COLUMNS = ["days_since_last_purchase", "purchase_frequency", "total_spend"]


def main() -> None:
    options = arguments(__doc__ or "")
    _, test = hold_out(training_set(options.warehouse, options.set))
    buyers = test[test["days_since_last_purchase"].notna() & (test["total_spend"] > 0)].copy()
    points = StandardScaler().fit_transform(np.log1p(buyers[COLUMNS].astype(float)))
    scores = {k: silhouette_score(points, clusters(points, k)) for k in range(3, 8)}
    best = max(scores, key=scores.__getitem__)
    buyers["cluster"] = clusters(points, best)
    order = buyers.groupby("cluster")["total_spend"].median().sort_values(ascending=False).index
    buyers["cluster"] = buyers["cluster"].map({c: f"cluster {n + 1}" for n, c in enumerate(order)})
    buyers["by spend"] = pd.qcut(buyers["total_spend"].rank(method="first"), best, labels=False).astype(str)
    header = ("", "customers", "days since", "orders", "spend", "bought again", "spend within the horizon")
    for by in ("cluster", "segment"):
        show(
            f"Medians by {by} at {test['as_of'].iloc[0]:%Y-%m-%d}, and what they did next (means)",
            [header, *(summary(name, group) for name, group in buyers.groupby(by))],
        )
    ways = {f"{best} clusters": "cluster", "gold's segments": "segment", f"{best} groups by spend alone": "by spend"}
    bought, spend = (~buyers["churned"]).astype(float), np.log1p(buyers["future_spend"].clip(lower=0))
    show(
        "Share of the differences between customers that the groups explain (eta squared)",
        [
            ("groups", "bought again", "spend (log)"),
            *(
                (n, f"{explained(buyers[w], bought):.1%}", f"{explained(buyers[w], spend):.1%}")
                for n, w in ways.items()
            ),
        ],
    )
    picture(buyers).savefig(options.out / "segments.png", dpi=110)
    print(f"{options.out / 'segments.png'}")


def clusters(points: np.ndarray, k: int) -> np.ndarray:
    return KMeans(k, n_init=10, random_state=0).fit_predict(points)


def summary(name: str, group: pd.DataFrame) -> tuple[str, ...]:
    middle = group[COLUMNS].median()
    return (
        name,
        f"{len(group):,}",
        *(f"{middle[c]:,.0f}" for c in COLUMNS),
        f"{1 - group['churned'].mean():.1%}",
        f"{group['future_spend'].mean():,.0f}",
    )


def explained(groups: pd.Series, values: pd.Series) -> float:
    """Variance between the groups, as a share of all."""
    return float(
        ((values.groupby(groups).transform("mean") - values.mean()) ** 2).sum() / ((values - values.mean()) ** 2).sum()
    )


def picture(buyers: pd.DataFrame) -> plt.Figure:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, group in buyers.groupby("cluster"):
        axes[0].scatter(group["days_since_last_purchase"] + 1, group["total_spend"], s=5, alpha=0.5, label=name)
    axes[0].set(
        xscale="log", yscale="log", xlabel="days since the last purchase + 1", ylabel="spend so far", title="Clusters"
    )
    axes[0].legend(markerscale=3)
    again = 1 - buyers.groupby("cluster")["churned"].mean()
    axes[1].bar(again.index, again)
    axes[1].axhline(1 - buyers["churned"].mean(), color="grey", linestyle=":", label="all customers")
    axes[1].set(title="Bought again within the horizon", ylabel="share")
    axes[1].tick_params(axis="x", labelrotation=20)
    axes[1].legend()
    return figure


if __name__ == "__main__":
    main()
