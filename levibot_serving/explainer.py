"""From a served model and a feature vector to the reasons of its forecast. A pure function, as the predictor is.

How a forecast is taken apart is in `levibot_core.models.explanation`.
"""

from levibot_core.models.explanation import TOP_CONTRIBUTIONS, explain
from levibot_core.stores.online import FeatureVector
from levibot_serving.contract import Explanation, FeatureContribution
from levibot_serving.predictor import expect_features, expect_known, horizon_minutes, utc
from levibot_serving.served import ServedModel


def explain_forecast(
    served: ServedModel, symbol: str, vector: FeatureVector, now_ms: int, top: int = TOP_CONTRIBUTIONS
) -> Explanation:
    """Say what each value of a symbol's features adds to the forecast.

    Args:
        served: The model that answers.
        symbol: Inside spelling, BTC/USDT.
        vector: The newest features of the symbol.
        now_ms: UTC milliseconds.
        top: Contributions to list at most.

    Raises:
        UnknownSymbolError: the model was not trained on the symbol.
        MissingFeatureError: the vector follows another feature set, or it lacks what the model needs.
        BundleError: contributions and score of the model do not fit together.
    """
    manifest = served.bundle.manifest
    expect_known(manifest, symbol)
    expect_features(manifest, symbol, vector)
    found = explain(served.bundle, served.bundle.matrix_row(symbol, vector.values), top)
    return Explanation(
        symbol=symbol,
        timeframe=manifest.timeframe,
        horizon=horizon_minutes(manifest),
        timestamp=utc(now_ms),
        as_of=utc(vector.known_at_ms),
        model=served.record.name,
        family=manifest.family,
        model_version=served.version,
        prob_up=found.probability,
        prob_raw=found.raw_probability,
        log_odds=found.log_odds,
        base_value=found.base_value,
        contributions=tuple(
            FeatureContribution(feature=item.feature, value=item.value, contribution=item.contribution)
            for item in found.contributions
        ),
        others=found.others,
    )
