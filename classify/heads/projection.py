"""Fewer columns for trees: principal components of the features, and a ridge regression of each class.

A tree splits by one column at a time, but what indicates a class is spread over hundreds of columns. The
regressions gather it.
"""

import numpy as np

from encode_once.classify.arrays import LabelMatrix, Vectors
from encode_once.classify.data.matrix import MatrixLike, chunks
from encode_once.classify.heads.checks import require_finite

RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # as shares of the columns' mean variance


def learn(
    X: MatrixLike, Y: LabelMatrix, X_val: MatrixLike, Y_val: LabelMatrix, components: int
) -> tuple[Vectors, Vectors]:
    """Center (d,) and axes (p + c, d) of rows X (n, d) with labels Y (n, c); see `project`.

    The axes are at most p = `components` principal axes, and the weights of c regressions. The ridge has the
    least squared error on the validation rows.
    """
    n, d = X.shape
    frequencies = Y.mean(axis=0)
    center = sum(X[part].sum(axis=0, dtype=np.float64) for part in chunks(n)) / n
    covariance, with_labels = np.zeros((d, d)), np.zeros((d, Y.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        for part in chunks(n):
            Z = (X[part] - center).astype(np.float32)
            covariance += Z.T @ Z / n
            with_labels += Z.T @ (Y[part] - frequencies).astype(np.float32) / n
    require_finite(covariance, "covariances of the features")
    variances, axes = np.linalg.eigh(covariance)  # in ascending order
    variances, projected = variances.clip(min=0)[:, None], axes.T @ with_labels  # (d, 1), (d, c)
    ridges = [variances.mean() * share + np.finfo(np.float32).tiny for share in RIDGES]
    errors = np.zeros(len(ridges))
    for part in chunks(len(X_val)):
        Z, centred = (X_val[part] - center) @ axes, Y_val[part] - frequencies
        errors += [((Z @ (projected / (variances + ridge)) - centred) ** 2).sum() for ridge in ridges]
    require_finite(errors, "validation errors of the ridge regressions")
    weights = axes @ (projected / (variances + ridges[int(errors.argmin())]))  # (d, c)
    principal = axes[:, ::-1][:, : min(components, n, d)]
    return center.astype(np.float32), np.hstack([principal, weights]).T.astype(np.float32)


def project(X: MatrixLike, center: Vectors, axes: Vectors) -> Vectors:
    """Rows X (n, d) along the axes (p + c, d), as (n, p + c)."""
    return np.concatenate([(X[part] - center) @ axes.T for part in chunks(len(X))])
