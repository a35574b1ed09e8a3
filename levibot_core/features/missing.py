"""Why a feature row is not whole: not enough history yet, a gap in a window, or a value that is not defined.

Counting what a snapshot leaves out needs this; computing features does not.
"""

import numpy as np
import polars as pl

from levibot_core.features.inputs import Bars, IntArray, assemble, origins_of
from levibot_core.features.registry import FeatureSet, FeatureSpec
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import FEATURES


def missing_reasons(
    features: pl.DataFrame,
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    leader: str = LEADER,
    fear_greed: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Say for every feature row that has a NaN why it has, by its NaN feature with the longest warm-up.

    Args:
        features: Rows that `compute_features` gave for the other arguments.
        candles: As for `compute_features`.
        funding: As for `compute_features`.
        feature_set: The set the rows follow.
        timeframe: Length of a bar.
        leader: The leading market.
        fear_greed: As for `compute_features`.

    Returns:
        Columns symbol, ts and reason (String), one row per incomplete row, sorted by symbol and ts. The reason is
        `warm_up: <family>` where the window begins before the first bar there is, `gap: <family>` where a bar in the
        window is missing or was not known in time, and `undefined: <family>` where the window is whole, but has no
        value (nothing moved, nothing was traded, no fresh funding).
    """
    key = FEATURES.key
    longest_first = sorted(feature_set.features, key=lambda feature: -feature.warm_up)
    worst = pl.coalesce(pl.when(pl.col(spec.name).is_nan()).then(pl.lit(spec.name)) for spec in longest_first)
    incomplete = features.select(*key, feature=worst).drop_nulls("feature")
    specs = {spec.name: spec for spec in longest_first}
    parts = [pl.DataFrame(schema={**incomplete.select(key).schema, "reason": pl.String()})]
    if "revision" in candles.columns:
        candles = candles.sort("revision").unique(["symbol", "ts"], keep="first")
    market = assemble(candles, funding, fear_greed, timeframe, leader, lead_in=feature_set.warm_up - 1)
    for bars in market if incomplete.height else ():
        own = incomplete.filter(pl.col("symbol") == bars.symbols[0])
        for (name,), rows in own.partition_by("feature", as_dict=True).items():
            positions = (rows["ts"].dt.epoch("ms").to_numpy() - bars.open_ms[0]) // bars.step_ms
            reasons = pl.Series("reason", _reasons(specs[name], bars, positions), dtype=pl.String())
            parts.append(rows.select(key).with_columns(reasons))
    return pl.concat(parts).sort(key)


def _reasons(spec: FeatureSpec, bars: Bars, rows: IntArray) -> list[str]:
    early, broken = np.zeros(rows.size, dtype=np.bool_), np.zeros(rows.size, dtype=np.bool_)
    for origin in origins_of(spec.inputs) & bars.known_from.keys():
        exists = bars.exists(origin)
        first = int(np.argmax(exists[:, 0])) if exists.any() else exists.size
        early |= rows - spec.warm_up + 1 < first
        broken |= bars.whole_bars(frozenset({origin}))[rows, 0] < spec.warm_up
    kinds = np.select([early, broken], ["warm_up", "gap"], "undefined")
    return [f"{kind}: {spec.family}" for kind in kinds.tolist()]
