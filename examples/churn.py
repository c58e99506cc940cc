"""Who will not come back: a classifier on gold's features, judged on a cut-off that it has not seen.

A customer churns who buys nothing within the horizon of the training set. The baseline ranks customers
by the days since their last purchase, which is what a shop does without a model.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from gold import LABELS, arguments, hold_out, show, training_set
from sklearn.calibration import calibration_curve
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve


def main() -> None:
    options = arguments(__doc__ or "")
    rows = training_set(options.warehouse, options.set)
    train, test = hold_out(rows)
    known = train.columns[train.notna().any()]
    features = [c for c in known if c not in (*LABELS, "customer_id", "as_of") and rows[c].dtype != object]
    model = HistGradientBoostingClassifier(learning_rate=0.05, max_iter=150, max_leaf_nodes=8, random_state=0)
    model.fit(train[features], train["churned"])
    # One feature, put on the scale of probabilities, so that all three can be compared in the same way.
    recency = ["days_since_last_purchase"]
    without = max(train[recency[0]].max(), test[recency[0]].max()) + 1
    baseline = LogisticRegression().fit(train[recency].fillna(without), train["churned"])
    predicted = {
        "share of the training set": np.full(len(test), train["churned"].mean()),
        "days since the last purchase": baseline.predict_proba(test[recency].fillna(without))[:, 1],
        "all features": model.predict_proba(test[features])[:, 1],
    }
    header = ("predicted from", "ROC AUC", "average precision", "Brier score")
    show(
        f"Churn at {test['as_of'].iloc[0]:%Y-%m-%d}: {len(test):,} customers, {test['churned'].mean():.1%} churned; "
        f"trained on {len(train):,} rows of {train['as_of'].nunique()} earlier cut-offs",
        [header, *((name, *figures(test["churned"], p)) for name, p in predicted.items())],
    )
    importance = permutation_importance(model, test[features], test["churned"], scoring="roc_auc", random_state=0)
    ranked = pd.Series(importance.importances_mean, index=features).sort_values(ascending=False).head(8)
    show("What the model uses", [("feature", "ROC AUC lost without it"), *((k, f"{v:.4f}") for k, v in ranked.items())])
    picture(test["churned"], predicted).savefig(options.out / "churn.png", dpi=110)
    print(f"{options.out / 'churn.png'}")


def figures(actual: pd.Series, predicted: np.ndarray) -> tuple[str, str, str]:
    return (
        f"{roc_auc_score(actual, predicted):.3f}",
        f"{average_precision_score(actual, predicted):.3f}",
        f"{brier_score_loss(actual, predicted):.3f}",
    )


def picture(actual: pd.Series, predicted: dict[str, np.ndarray]) -> plt.Figure:
    figure, (roc, calibration) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for name, values in list(predicted.items())[1:]:
        roc.plot(*roc_curve(actual, values)[:2], label=name)
        observed, mean = calibration_curve(actual, values, n_bins=10, strategy="quantile")
        calibration.plot(mean, observed, marker="o", label=name)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        axes.legend()
    roc.set(title="ROC", xlabel="false positives", ylabel="true positives")
    calibration.set(title="Calibration, by tenths of the customers", xlabel="predicted", ylabel="churned")
    return figure


if __name__ == "__main__":
    main()
