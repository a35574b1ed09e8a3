"""The data dictionary: a feature set as a Markdown page for people, made from the registry alone.

Writing the page and comparing it with the one in docs/ is the `levibot features document` command's work.
"""

from collections.abc import Iterator, Mapping, Sequence

from levibot_core.features.families.bar_shape import BAR_SHAPE
from levibot_core.features.families.dispersion import DISPERSION
from levibot_core.features.families.extremes import EXTREMES
from levibot_core.features.families.flows import FLOWS
from levibot_core.features.families.kernel import Kernel
from levibot_core.features.families.trend import TREND
from levibot_core.features.inputs import SERIES, Origin, Series, origins_of
from levibot_core.features.registry import BASE, FeatureSet, FeatureSpec

# A feature belongs to the first section that fits: by what it looks at, and on a market's own bars by what it does.
_BY_ORIGIN: Mapping[Origin, str] = {
    "leader": "The leading market",
    "funding": "Funding",
    "fear_greed": "The fear and greed index",
    "clock": "Calendar",
}
_BY_KERNELS: Sequence[tuple[str, Mapping[str, Kernel]]] = (
    ("The shape of the bar", BAR_SHAPE),
    ("Returns, gaps to averages, fitted lines", TREND),
    ("Dispersion", DISPERSION),
    ("Extremes, ranks and quantiles", EXTREMES),
    ("Rises against falls", FLOWS),
)
_VOLUME = "Volume"
_OF_VOLUME = frozenset(name for name in SERIES if "volume" in name)
_HIGHER = "Closed bars of {}"

_ORIGINS: Mapping[Origin, str] = {
    "own": "the symbol's bars",
    "leader": "the leading market's bars",
    "clock": "the clock",
    "funding": "funding settlements",
    "fear_greed": "the daily index",
}

NOT_OFFERED: Mapping[str, tuple[str, ...]] = {
    "Not free of the scale of prices and amounts, so a model could not share them between symbols. Gaps to averages "
    "and to extremes say where the close stands, `volume_ratio_*` and `volume_zscore_*` where the volume does.": (
        "close",
        "volume",
    ),
    "No order book in the lake.": ("spread_bps", "ofi", "ob_imb", "book imbalance"),
    "No open interest and no positions in the lake.": ("oi_chg_3", "oi_change_3", "OI", "long_short_ratio"),
    "No news in the lake. The mood of the market, day by day, is in `fear_greed*`.": (
        "snews_impact",
        "snews_conf",
        "news_impact",
        "news_confidence",
        "sentiment",
    ),
    "No on-chain data in the lake.": ("active_wallets", "exchange_inflow", "exchange_outflow", "whale_txs"),
    "Needs two particular symbols on every row. `leader_ratio_gap_*` gives the ratio of each symbol to the leader.": (
        "ratio_ETH_SOL",
    ),
    "Shorter than a bar, or inside one. What a bar keeps of it is in `bar_range` and the shadows.": (
        "ret_1m",
        "vol_1m",
        "vol_5m",
    ),
    "Labels, not features: they look ahead.": ("label_return_3", "label_direction"),
}
"""Why there is no such feature, and the names of the earlier LeviBot that this answers."""

_HEAD = """\
# Features

Made from `levibot_core/features/features.yml` by `levibot features document`; edit that file, not this page.

Feature set {version}: {count} features, warm-up {warm_up} bars, definition
`{sha256}`.
A released version is frozen: a change of a definition or of a value is a new name in a new version.

A row belongs to a symbol and a bar and is decided at the close of that bar: nothing that became known later has a part
in it. Each value is a function of its own window alone.

* **Window** counts bars of the market (5m), or of the timeframe named in the heading, the newest one included; "the
  last 20 bars" end with the row's own. **Warm-up** is how many bars of the market one value needs in all.
* **Closed bars** of a longer timeframe are put together from bars of the market, on the clock's grid (UTC). A row sees
  the newest one that had closed at its decision time; a bar of which a part is missing is missing.
* **Undefined** is NaN, and so is a value whose window misses a bar; neither is ever replaced by a number. Rows with one
  are left out of training sets and not served, each with its reason.
* **Standard deviation**, variance and correlation divide by the number of bars.
* **Exponential mean** of span s: the weight of the value k bars before is proportional to (1 - 2 / (s + 1))^k.
* **Realized volatility** is taken around 0, not around the mean return.
* **Rises and falls** are counted as sizes, from the bar before.
* **True range** is the largest of high - low, |high - close before| and |low - close before|.
* **The leading market** is BTC/USDT.
"""


def data_dictionary(feature_set: FeatureSet) -> str:
    """The page for a feature set: every feature by section, the input series, and the answer to earlier names.

    Args:
        feature_set: The set to describe; its newest version has every feature there is.

    Returns:
        Markdown (GitHub's), ending with a newline; the same text for the same registry.
    """
    parts = [
        _HEAD.format(
            version=feature_set.version,
            count=len(feature_set.features),
            warm_up=feature_set.warm_up,
            sha256=feature_set.sha256,
        )
    ]
    for title, features in _sections(feature_set).items():
        parts.append(
            f"## {title}\n\n"
            + _table(
                ("name", "formula", "window", "warm-up", "unit", "inputs", "since"),
                (
                    (
                        f"`{spec.name}`",
                        spec.formula,
                        spec.window,
                        spec.warm_up,
                        spec.unit,
                        ", ".join(dict.fromkeys(spec.inputs)),
                        spec.since,
                    )
                    for spec in features
                ),
            )
        )
    parts.append("## Input series\n\nWhat the inputs above are, for one bar.\n\n" + _input_table(feature_set))
    parts.append(
        "## Names in the earlier LeviBot\n\nWhat is called otherwise here, or serves the same purpose. Features that "
        "were only planned stand with their description.\n\n" + _earlier_table(feature_set)
    )
    parts.append(
        "## Not offered\n\n"
        + _table(("earlier name", "why"), ((_code(names), reason) for reason, names in NOT_OFFERED.items()))
    )
    return "\n".join(parts)


def section_of(spec: FeatureSpec) -> str:
    """The heading under which a feature stands."""
    if spec.timeframe is not None:
        return _HIGHER.format(spec.timeframe)
    for origin, title in _BY_ORIGIN.items():
        if origin in origins_of(spec.inputs):
            return title
    if not _OF_VOLUME.isdisjoint(spec.inputs):
        return _VOLUME
    return next(title for title, kernels in _BY_KERNELS if spec.family in kernels)


def _sections(feature_set: FeatureSet) -> dict[str, list[FeatureSpec]]:
    """Features in registry order below their headings, windows of one kind together."""
    longer = sorted(
        {spec.timeframe: spec.step_ms or BASE.milliseconds for spec in feature_set.features if spec.timeframe}.items(),
        key=lambda timeframe: timeframe[1],
    )
    titles = [
        *(title for title, _ in _BY_KERNELS),
        _VOLUME,
        *_BY_ORIGIN.values(),
        *(_HIGHER.format(timeframe) for timeframe, _ in longer),
    ]
    sections: dict[str, list[FeatureSpec]] = {title: [] for title in titles}
    first_of: dict[tuple[object, ...], int] = {}
    for number, spec in enumerate(feature_set.features):
        first_of.setdefault(_kind(spec), number)
        sections[section_of(spec)].append(spec)
    for features in sections.values():
        features.sort(key=lambda spec: (first_of[_kind(spec)], spec.window))
    return {title: features for title, features in sections.items() if features}


def _kind(spec: FeatureSpec) -> tuple[object, ...]:
    """What features have in common that differ in nothing but the window."""
    return spec.family, spec.inputs, spec.timeframe


def _input_table(feature_set: FeatureSet) -> str:
    used = {name for spec in feature_set.features for name in spec.inputs}
    return _table(
        ("series", "what it is", "from", "bars before its own"),
        (
            (f"`{name}`", series.description, _origin(series), series.reach)
            for name, series in SERIES.items()
            if name in used
        ),
    )


def _origin(series: Series) -> str:
    return " and ".join(words for origin, words in _ORIGINS.items() if origin in series.origins)


def _earlier_table(feature_set: FeatureSet) -> str:
    answers: dict[str, list[str]] = {}
    for spec in feature_set.features:
        for earlier in spec.replaces:
            answers.setdefault(earlier, []).append(spec.name)
    return _table(
        ("earlier name", "here"),
        ((f"`{earlier}`", _code(answers[earlier])) for earlier in sorted(answers, key=str.casefold)),
    )


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(columns: Sequence[str], rows: Iterator[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
