"""Exports the metrics of scikit-learn and SciPy on small cases, for the unit tests of the GLUE stage.

    python tests/parity/export_metrics.py > crates/glue/tests/fixtures/metrics.json

Needs the PyPI packages `scikit-learn` and `scipy`; the fixture was made with 1.9.1 and 1.17.1.
"""

import json
import random

from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def classification(name, predictions, references):
    """One case with class numbers; F1 only where there are two classes."""
    expected = {
        "accuracy": accuracy_score(references, predictions),
        "matthews": matthews_corrcoef(references, predictions),
    }
    if max(predictions + references) <= 1:
        expected["f1"] = f1_score(references, predictions, zero_division=0)
    return case(name, predictions, references, expected)


def regression(name, predictions, references):
    """One case with numbers that a 32-bit float holds exactly."""
    expected = {
        "pearson": pearsonr(predictions, references).statistic,
        "spearman": spearmanr(predictions, references).statistic,
    }
    return case(name, predictions, references, expected)


def case(name, predictions, references, expected):
    expected = {metric: float(value) for metric, value in expected.items()}
    return {"name": name, "predictions": predictions, "references": references, "expected": expected}


def noisy(rng, references, classes, keep):
    return [r if rng.random() < keep else rng.randrange(classes) for r in references]


def main():
    rng = random.Random(7)
    cases = []
    for classes in (2, 3):
        for keep in (0.0, 0.5, 0.9, 1.0):
            references = [rng.randrange(classes) for _ in range(60)]
            predictions = noisy(rng, references, classes, keep)
            cases.append(classification(f"{classes} classes, {keep} kept", predictions, references))
    skewed = [int(rng.random() < 0.9) for _ in range(60)]
    cases.append(classification("skewed", noisy(rng, skewed, 2, 0.7), skewed))
    cases.append(classification("all wrong", [1 - r for r in skewed], skewed))
    cases.append(classification("constant prediction", [1] * 60, skewed))
    cases.append(classification("no positives at all", [0, 0, 0], [0, 0, 0]))
    cases.append(classification("no true positives", [1, 0, 0], [0, 1, 0]))
    for slope in (1.0, -0.5, 0.0):
        xs = [rng.randrange(0, 320) / 64 for _ in range(60)]
        ys = [slope * x + rng.randrange(0, 128) / 64 for x in xs]
        cases.append(regression(f"slope {slope}", xs, ys))
    tied = [rng.randrange(0, 6) for _ in range(60)]
    cases.append(regression("many ties", [t + rng.randrange(0, 2) for t in tied], tied))
    cases.append(regression("perfect", [0.0, 1.5, 5.0], [0.0, 1.5, 5.0]))
    cases.append(regression("monotone, not linear", [0.0, 1.0, 4.0, 9.0], [0.0, 1.0, 2.0, 3.0]))
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
