"""Exports what SciPy and NumPy say of two scorings of the same rows, for the unit tests of `entromask-report compare`.

    python tests/parity/export_agreement.py > crates/report/tests/fixtures/agreement.json

Needs the PyPI packages `numpy` and `scipy`; the fixture was made with 2.4.6 and 1.17.1.
"""

import json
import warnings

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr


def rank_correlation(left, right):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        found = spearmanr(left, right).statistic if len(left) > 1 else np.nan
    return None if np.isnan(found) else float(found)


def top(left, right):
    """Share of the highest 15 % that are the same; of equal values the first ones are higher."""
    count = max(1, round(0.15 * len(left)))
    left, right = (set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (left, right))
    return len(left & right) / count


def case(measure, left, right):
    rows = []
    for own, other in zip(left, right):
        both = ~np.isnan(own) & ~np.isnan(other)
        if both.any():
            rows.append((own[both].astype(np.float64), other[both].astype(np.float64)))
    one, two = (np.concatenate(side) for side in zip(*rows))
    uncertain = [tuple(-side if measure == "margin" else side for side in row) for row in [(one, two), *rows]]
    in_rows = [found for row in rows if (found := rank_correlation(*row)) is not None]
    absolute = np.abs(one - two)
    lists = lambda side: [[None if np.isnan(value) else float(value) for value in row] for row in side]
    return {
        "measure": measure,
        "left": lists(left),
        "right": lists(right),
        "positions": len(one),
        "means": [float(one.mean()), float(two.mean())],
        "stds": [float(one.std()), float(two.std())],
        "difference": float((two - one).mean()),
        "absolute_mean": float(absolute.mean()),
        "absolute_p95": float(np.percentile(absolute, 95)),
        "absolute_max": float(absolute.max()),
        "spearman": rank_correlation(one, two),
        "spearman_in_rows": float(np.mean(in_rows)) if in_rows else None,
        "top": top(*uncertain[0]),
        "top_in_rows": float(np.mean([top(*row) for row in uncertain[1:]])),
    }


def scorings(draw, lengths, noise, missing, digits):
    """Two scorings of rows of these lengths, rounded to so many digits, each without a share of the positions."""
    left, right = [], []
    for length in lengths:
        own = draw.gamma(3.0, 1.5, length)
        other = own + draw.normal(0.0, noise, length)
        for side, values in ((left, own), (right, other)):
            values = np.round(values, digits).astype(np.float32)
            values[draw.random(length) < missing] = np.nan
            side.append(values)
    return left, right


def main():
    draw = np.random.default_rng(11)
    cases = [
        case("entropy", *scorings(draw, [20, 17, 1, 24], 0.8, 0.0, 4)),
        case("surprisal", *scorings(draw, [30, 12, 3], 2.0, 0.4, 4)),
        case("entropy", *scorings(draw, [40, 40, 9], 1.0, 0.1, 0)),
        case("margin", *scorings(draw, [25, 31], 0.5, 0.1, 3)),
        case("entropy", *scorings(draw, [2, 2, 2], 1.0, 0.0, 4)),
        case("entropy", [np.full(8, 2.5, np.float32)], [np.arange(8, dtype=np.float32)]),
    ]
    print(json.dumps(cases))


main()
