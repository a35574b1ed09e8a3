"""The pages made from a model card: Markdown for reviews and Dagster, HTML for people. Neither measures anything.

The HTML page stands alone: no script, no font and no picture from outside. Layouts are `model_card.md.j2` and
`model_card.html.j2`, drawings `.card_charts`.
"""

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from levibot_core.models.card import horizon_minutes
from levibot_core.models.card_charts import interval_svg, reliability_svg, spread_svg
from levibot_core.models.metrics import LONG_THRESHOLD, SHORT_THRESHOLD
from levibot_core.validation.split import PARTS

_LOADER = PackageLoader("levibot_core.models", ".")
BEESWARM = "shap_beeswarm"
"""Name of the picture that stands beside the list of columns; others follow at the end of the page."""
_TITLES = {
    "tuning_history": "Every trial of the search",
    "reliability": "Forecast against frequency, with the spread of forecasts",
}
_ABSENT_IN_FORMAT_1: Mapping[str, Any] = {
    "misuse": (),
    "intervals": {},
    "against_base_rate": None,
    "shap": None,
    "spread": None,
    "reproduction": None,
    "ensemble": None,
    "judgement": None,
}


def card_markdown(card: dict[str, Any]) -> str:
    """The card as Markdown for people.

    Args:
        card: What `build_card` gave, or a JSON file of it, of this format or of one before it.
    """
    environment = Environment(  # noqa: S701 - the output is Markdown, not HTML
        loader=_LOADER, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.j2").render(_context(card))


def card_html(card: dict[str, Any], pictures: Mapping[str, bytes] | None = None) -> str:
    """The card as one page that needs nothing from outside.

    Args:
        card: As for `card_markdown`.
        pictures: PNGs by name, put into the page; `BEESWARM` is one of them.
    """
    environment = Environment(loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"signed": _signed, "figure": _figure, "duration": _duration}
    whole = {**_ABSENT_IN_FORMAT_1, **card}
    against, spread = whole["against_base_rate"], whole["spread"]
    shown = dict(pictures or {})
    beeswarm = shown.pop(BEESWARM, None)
    curve = whole["reliability"]
    drawings = {
        "reliability": reliability_svg(
            curve["predicted"], curve["observed"], curve["counts"], card["base_rate"]["probability"]
        ),
        "against": interval_svg(against["mean"], against["lower_95"], against["upper_95"]) if against else "",
        "gain": spread_svg(spread, "gain", 0.0, "base rate") if spread else "",
        "auc": spread_svg(spread, "auc", 0.5, "chance") if spread else "",
    }
    return environment.get_template("model_card.html.j2").render(
        _context(card),
        # Made from figures alone: text in them is escaped where they are made.
        drawings={name: Markup(svg) for name, svg in drawings.items()},  # noqa: S704
        beeswarm=_data_uri(beeswarm) if beeswarm else None,
        more=[(_TITLES.get(name, name.replace("_", " ")), _data_uri(png)) for name, png in sorted(shown.items())],
        shares=_part_shares(card),
        commands=_commands(card),
    )


def verdict(card: dict[str, Any]) -> str:
    """What a person has to know first, in one sentence."""
    test, base = card["metrics"]["test"], card["base_rate"]
    gain = base["log_loss"]["test"] - test["log_loss"]
    measured = (
        f"on {int(test['rows']):,} rows that nothing was fitted or chosen on, its log loss is {test['log_loss']:.5f}, "
        f"{abs(gain):.5f} nats a row {'better' if gain > 0 else 'worse'} than always saying {base['probability']:.4f}"
    )
    judgement = card.get("judgement")
    if judgement is None:
        return f"Not judged yet: {measured}."
    failed = [gate["gate"].replace("_", " ") for gate in judgement["gates"] if not gate["passed"]]
    if not failed:
        return f"Passed all {len(judgement['gates'])} promotion gates: {measured}."
    return f"Refused by {len(failed)} of {len(judgement['gates'])} promotion gates ({', '.join(failed)}): {measured}."


def _context(card: dict[str, Any]) -> dict[str, Any]:
    against = card.get("against_base_rate") or {}
    # Cards of format 2 were judged with less confidence.
    confidence, bound = ("99.9 %", "upper_999") if "upper_999" in against else ("99 %", "upper_99")
    return {
        **_ABSENT_IN_FORMAT_1,
        **card,
        "verdict": verdict(card),
        "minutes": horizon_minutes(card),
        "bound": {"confidence": confidence, "value": against.get(bound)},
        "event": "profits reached first" if "triple_barrier" in card["model"] else "rises",
        "order": PARTS,
        "long": LONG_THRESHOLD,
        "short": SHORT_THRESHOLD,
    }


def _part_shares(card: dict[str, Any]) -> list[tuple[str, float]]:
    """Percent of the rows in each part, in order of time: a card read from its file has its keys in another."""
    rows = {name: card["split"][name]["rows"] for name in PARTS}
    return [(name, 100.0 * count / sum(rows.values())) for name, count in rows.items()]


def _commands(card: dict[str, Any]) -> list[tuple[str, str]]:
    version = card["model"]["version"] or "VERSION"
    snapshot_id = card["provenance"]["snapshot_id"]
    return [
        (
            "Everything that can be: scores, intervals of the comparison, base rate, calibration, reliability, "
            "importance, SHAP values, split, what the gates compared",
            f"levibot models card verify {version}",
        ),
        (
            "The same, with the spread over folds and seeds and the leak attack",
            f"levibot models card verify {version} --deep",
        ),
        ("The model itself, byte by byte", f"levibot models rebuild {version}"),
        ("The search that found it, trial by trial", f"levibot models rebuild {version} --study"),
        ("The rows it learnt from", f"levibot features snapshots rebuild {snapshot_id}"),
        ("The backtest", f"levibot backtest show {version}"),
    ]


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _signed(value: float, digits: int = 5) -> str:
    return f"{value:+.{digits}f}"


def _figure(value: Any) -> str:
    """A parameter of any kind, short enough for a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
