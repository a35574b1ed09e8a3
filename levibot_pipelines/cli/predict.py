"""`levibot predict SYMBOL`: the answer the inference API would give, without the API."""

import time
from typing import Annotated, Any

import typer

from levibot_core.errors import RegistryError
from levibot_core.market.symbols import normalize_symbol
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, working
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.features import newest_features, open_features
from levibot_serving.model_store import ModelStore
from levibot_serving.predictor import predict as forecast


def predict(
    symbol: Annotated[str, typer.Argument(help="Trading pair: BTC/USDT, BTC-USDT or BTCUSDT.")],
    as_json: JsonOption = False,
) -> None:
    """Forecast one symbol with the champion and the newest features, through the code that serves engines."""
    with working("Opening the model registry"):
        prediction = predict_once(load_serving_settings(), symbol)
    if as_json:
        print_json(prediction)
        return
    print_facts(
        f"{prediction['symbol']} in {prediction['horizon']} minutes",
        [
            ("probability of a rise", f"{prediction['prob_up']:.4f}"),
            ("side", prediction["side"] + (" (abstains)" if prediction["abstain"] else "")),
            ("current price", f"{prediction['_current_price']:,.2f}"),
            ("model", f"{prediction['model']} version {prediction['model_version']} ({prediction['family']})"),
            ("features as of", prediction["as_of"]),
            ("tradable", "yes" if prediction["tradable"] else "no"),
            ("reasons", "\n".join(prediction["reasons"]) or "-"),
        ],
    )


def predict_once(settings: ServingSettings, symbol: str) -> dict[str, Any]:
    """The API's answer for one symbol, as JSON-ready values.

    Raises:
        RegistryError: there is no champion to ask.
    """
    name = normalize_symbol(symbol)
    store = ModelStore.open(settings)
    store.refresh()
    if store.served is None:
        raise RegistryError(store.status.problem or "There is no champion.")
    now_ms = time.time_ns() // 1_000_000
    newest = newest_features(open_features(settings), store.served.bundle.manifest, name, now_ms)
    found = forecast(store.served, name, newest.vector, now_ms, settings.feature_grace_seconds, bars=newest.bars)
    return found.model_dump(mode="json", by_alias=True)
