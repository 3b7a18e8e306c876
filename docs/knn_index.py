"""Time the head `knn` without and with its index on synthetic rows: python docs/knn_index.py 500000 2000.

The rows of 256 columns lie about 1,000 overlapping centres in 24 dimensions; 19 classes depend on the place.
"""

import sys
import time

import numpy as np
from sklearn.metrics import average_precision_score

from encode_once.heads import KNN


def main() -> None:
    """The arguments are the numbers of train rows, and of validation and new rows."""
    rng = np.random.default_rng(0)
    centres, mixture = rng.normal(size=(1000, 24)), rng.normal(size=(24, 256)).astype(np.float32)
    weights = rng.normal(size=(24, 19))
    sets = []
    for rows in (int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[2])):
        places = centres[rng.integers(1000, size=rows)] + 0.7 * rng.normal(size=(rows, 24))
        noise = rng.standard_normal((rows, 256), np.float32) / 2
        labels = places @ weights + 4 * rng.normal(size=(rows, 19)) > 6
        sets.append((places.astype(np.float32) @ mixture + noise, labels))
    train, validation, (X, Y) = sets
    scores = []
    for index in ("exact", "faiss"):
        start = time.process_time()
        head = KNN(index=index, device="cpu").fit(*train, *validation)
        fitted = time.process_time()
        scores.append(head.predict_proba(X))
        seconds = f"fit {fitted - start:.1f} s, new rows {time.process_time() - fitted:.2f} s"
        mean = average_precision_score(Y, scores[-1])
        sys.stdout.write(f"{index}: {seconds}, mAP {mean:.3f} {' '.join(head.notes)}\n")
    difference = np.abs(scores[0] - scores[1])
    sys.stdout.write(f"scores differ by {difference.mean():.4f}, at most {difference.max():.3f}\n")


if __name__ == "__main__":
    main()
