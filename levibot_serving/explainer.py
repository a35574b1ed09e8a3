"""From a served model and a feature vector to the reasons of its forecast. A pure function, as the predictor is.

How a forecast is taken apart is in `levibot_core.models.explanation`.
"""

from typing import Any

import numpy as np

from levibot_core.errors import ExplanationError
from levibot_core.models.calibration import logit
from levibot_core.models.explanation import TOP_CONTRIBUTIONS, explain
from levibot_core.stores.online import FeatureVector
from levibot_serving.contract_explanation import Explanation, FeatureContribution, FeatureWeight
from levibot_serving.predictor import expect_features, expect_known, horizon_minutes, model_input, utc
from levibot_serving.served import ServedModel


def explain_forecast(
    served: ServedModel,
    symbol: str,
    vector: FeatureVector,
    now_ms: int,
    top: int = TOP_CONTRIBUTIONS,
    bars: np.ndarray | None = None,
) -> Explanation:
    """Say what each value of a symbol's features adds to the forecast, or why that is not known.

    Args:
        served: The model that answers.
        symbol: Inside spelling, BTC/USDT.
        vector: The newest features of the symbol.
        now_ms: UTC milliseconds.
        top: Contributions to list at most.
        bars: As `levibot_serving.predictor.predict` takes them.

    Raises:
        UnknownSymbolError: the model was not trained on the symbol.
        MissingFeatureError: the vector follows another feature set, or it lacks what the model needs.
        BundleError: contributions and score of the model do not fit together.
    """
    manifest = served.bundle.manifest
    expect_known(manifest, symbol)
    expect_features(manifest, symbol, vector)
    found = _found(served, model_input(served.bundle, vector, bars), top)
    return Explanation(
        symbol=symbol,
        timeframe=manifest.timeframe,
        horizon=horizon_minutes(manifest),
        timestamp=utc(now_ms),
        as_of=utc(vector.known_at_ms),
        model=served.record.name,
        family=manifest.family,
        model_version=served.version,
        **found,
    )


def _found(served: ServedModel, row: np.ndarray, top: int) -> dict[str, Any]:
    try:
        found = explain(served.bundle, row, top)
    except ExplanationError as error:
        return _weighed(served, row, top, str(error))
    return {
        "prob_up": found.probability,
        "prob_raw": found.raw_probability,
        "log_odds": found.log_odds,
        "base_value": found.base_value,
        "contributions": tuple(
            FeatureContribution(feature=item.feature, value=item.value, contribution=item.contribution)
            for item in found.contributions
        ),
        "others": found.others,
    }


def _weighed(served: ServedModel, windows: np.ndarray, top: int, reason: str) -> dict[str, Any]:
    """The forecast, where the network looked, and why nothing more is known."""
    bundle, names = served.bundle, served.bundle.manifest.features
    raw, weights = bundle.predict_raw(windows), bundle.selection_weights(windows)[0]
    ranked = np.argsort(-weights, kind="stable")[:top]
    return {
        "prob_up": float(bundle.calibrate(raw)[0]),
        "prob_raw": float(raw[0]),
        "log_odds": float(logit(raw)[0]),
        "base_value": None,
        "contributions": (),
        "others": None,
        "reason": reason,
        "selection_weights": tuple(
            FeatureWeight(feature=names[place], value=float(windows[0, -1, place]), weight=float(weights[place]))
            for place in ranked
        ),
    }
