"""Exports quantiles of Student's t and paired intervals of SciPy, for the unit tests of `entromask-report compare`.

    python tests/parity/export_student_t.py > crates/report/tests/fixtures/student_t.json

Needs the PyPI package `scipy`; the fixture was made with 1.17.1.
"""

import json
import random

from scipy.stats import t, ttest_rel


def main():
    degrees = [*range(1, 31), 50, 100, 1000]
    quantiles = [[p, df, float(t.ppf(p, df))] for p in (0.9, 0.95, 0.975, 0.995) for df in degrees]
    rng = random.Random(5)
    paired = []
    for n in (2, 3, 5, 10):
        baseline = [round(60 + rng.gauss(0, 1), 3) for _ in range(n)]
        other = [round(value + 0.8 + rng.gauss(0, 1), 3) for value in baseline]
        interval = ttest_rel(other, baseline).confidence_interval(0.95)
        paired.append({"baseline": baseline, "other": other, "interval": [float(interval.low), float(interval.high)]})
    print(json.dumps({"quantiles": quantiles, "paired": paired}, indent=0))


if __name__ == "__main__":
    main()
