"""Correlation and multicollinearity: which features say the same, and how much each adds to the others.

Measured on ranks (Spearman), so that neither units nor a strictly increasing transformation of a feature matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from levibot_core.errors import DataQualityError

CLUSTER_THRESHOLD = 0.95


@dataclass(frozen=True, slots=True)
class Cluster:
    """Features of which any two have |rho| of at least `weakest`, which is above the threshold.

    `representative` is the member that is closest to all others: keep that one where one is enough.
    """

    members: tuple[str, ...]
    representative: str
    weakest: float


@dataclass(frozen=True, slots=True)
class CorrelationReport:
    """Correlation of all features that vary.

    Attributes:
        features: In the order of the hierarchical clustering: similar ones stand side by side.
        matrix: Spearman's rho, float64 (n, n), rows and columns in that order.
        clusters: Groups of two or more that say nearly the same, largest first.
        inflation: Feature to its variance inflation factor, 1 / (1 - R^2) of its ranks explained by the ranks of all
            others; infinite where it is an exact combination of them.
        constant: Features with a single value in the sample; they correlate with nothing.
        rows: Rows looked at.
    """

    features: tuple[str, ...]
    matrix: np.ndarray
    clusters: tuple[Cluster, ...]
    inflation: Mapping[str, float]
    constant: tuple[str, ...]
    rows: int

    @property
    def redundant(self) -> int:
        """Features that could go if one of each cluster stayed."""
        return sum(len(cluster.members) - 1 for cluster in self.clusters)

    def to_frame(self) -> pl.DataFrame:
        """The matrix with its names: feature, then a column per feature, in the order of the clustering."""
        names = pl.DataFrame({"feature": self.features})
        return names.hstack(pl.DataFrame(self.matrix, schema=[*self.features]))

    def to_dict(self) -> dict[str, object]:
        """Everything but the matrix, ready for JSON; an infinite inflation is null."""
        return {
            "rows": self.rows,
            "features": len(self.features) + len(self.constant),
            "constant": list(self.constant),
            "redundant": self.redundant,
            "clusters": [asdict(cluster) for cluster in self.clusters],
            "variance_inflation": {
                name: value if np.isfinite(value) else None for name, value in self.inflation.items()
            },
        }


def measure_correlation(
    rows: pl.DataFrame, features: Sequence[str], sample: int, seed: int, threshold: float = CLUSTER_THRESHOLD
) -> CorrelationReport:
    """Correlate every pair of features, and cluster them.

    Clusters are those of complete linkage on the distance 1 - |rho|, cut so that every pair in a cluster has an
    |rho| of at least `threshold` (F. Murtagh and P. Contreras, "Algorithms for hierarchical clustering", 2012).

    Args:
        rows: Feature columns without NaN.
        features: Columns to look at.
        sample: Rows to look at, at most; more are sampled down to it.
        seed: Of the sampling.
        threshold: Least |rho| within a cluster, between 0 and 1.

    Raises:
        DataQualityError: fewer than three rows, or fewer than two features that vary.
    """
    chosen = rows.select(features)
    if chosen.height > sample:
        chosen = chosen.sample(sample, seed=seed)
    values = chosen.to_numpy()
    varies = (values != values[:1]).any(axis=0) if chosen.height else np.zeros(len(features), dtype=bool)
    names = [name for name, kept in zip(features, varies, strict=True) if kept]
    if chosen.height < 3 or len(names) < 2:
        raise DataQualityError(
            f"Expected at least 3 rows and 2 features that vary, was {chosen.height} rows and {len(names)} features. "
            "Build a snapshot over a longer period."
        )
    rho = np.clip(np.corrcoef(rankdata(values[:, varies], axis=0), rowvar=False), -1.0, 1.0)
    np.fill_diagonal(rho, 1.0)
    tree = _tree(np.abs(rho))
    order = hierarchy.leaves_list(tree)
    return CorrelationReport(
        features=tuple(names[place] for place in order),
        matrix=rho[np.ix_(order, order)],
        clusters=_clusters(names, np.abs(rho), tree, threshold),
        inflation=dict(zip(names, _inflation(rho).tolist(), strict=True)),
        constant=tuple(name for name, kept in zip(features, varies, strict=True) if not kept),
        rows=chosen.height,
    )


def _tree(strength: np.ndarray) -> np.ndarray:
    distances = squareform((1.0 - strength + 1.0 - strength.T) / 2.0, checks=False)
    return np.asarray(hierarchy.optimal_leaf_ordering(hierarchy.complete(distances), distances))


def _clusters(names: Sequence[str], strength: np.ndarray, tree: np.ndarray, threshold: float) -> tuple[Cluster, ...]:
    labels = hierarchy.fcluster(tree, t=1.0 - threshold, criterion="distance")
    found = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        if places.size < 2:
            continue
        inside = strength[np.ix_(places, places)]
        found.append(
            Cluster(
                members=tuple(names[place] for place in places.tolist()),
                representative=names[int(places[int(np.argmax(inside.sum(axis=1)))])],
                weakest=float(inside.min()),
            )
        )
    return tuple(sorted(found, key=lambda cluster: (-len(cluster.members), cluster.members)))


def _inflation(rho: np.ndarray) -> np.ndarray:
    """Diagonal of the inverse correlation matrix, through its eigenvalues so that a singular matrix has an answer."""
    eigenvalues, vectors = np.linalg.eigh(rho)
    tiny = eigenvalues[-1] * len(rho) * np.finfo(np.float64).eps
    regular = eigenvalues > tiny
    inflation = (vectors[:, regular] ** 2 / eigenvalues[regular]).sum(axis=1)
    combined = (vectors[:, ~regular] ** 2).sum(axis=1) > 1e-8
    return np.where(combined, np.inf, np.maximum(inflation, 1.0))
