"""Exports SciPy's rank correlations of small samples with ties, for the unit tests of scoring.

    python tests/parity/export_spearman.py > crates/policy/tests/fixtures/spearman.json

Needs the PyPI packages `numpy` and `scipy`; the fixture was made with 2.4.6 and 1.17.1.
"""

import json

import numpy as np
from scipy.stats import spearmanr


def main():
    draw = np.random.default_rng(1)
    samples = [([1, 2, 3, 4], [10, 20, 25, 100]), ([1, 2, 3], [3, 2, 1]), ([1, 1, 2, 2], [1, 2, 1, 2])]
    for size, ties in [(10, 3), (50, 8), (200, 40), (500, 5)]:
        left = draw.integers(0, ties, size)
        right = np.where(draw.random(size) < 0.6, left, draw.integers(0, ties, size))
        samples.append((left.tolist(), right.tolist()))
    noise = draw.normal(size=(2, 100)).astype(np.float32)
    samples.append((noise[0].tolist(), (noise[0] * 2 + noise[1]).tolist()))
    cases = [{"left": a, "right": b, "spearman": float(spearmanr(a, b).statistic)} for a, b in samples]
    print(json.dumps(cases))


main()
