"""The false-promotion certificate: which markets the platform is tried on, and what the promotions there prove.

Where nothing can be forecast, every promotion is a false one; the share of false promotions has an exact upper bound.
Where an edge of known size was planted, the share promoted is the power. Pure plans and statistics: making the markets
is `.destroyed_market`'s and the simulator's work, running the platform on them `levibot_pipelines.certification`'s, the
page is in `.certificate_page`.
"""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from levibot_core.validation.exact_share import exact_share_95, upper_bound
from levibot_core.validation.gates import LossComparison

CERTIFICATE_FORMAT: Final = "levibot-certificate/1"
EDGES: Final = (0.10, 0.15, 0.20, 0.30)
"""Planted edges: the correlation of a bar's scaled return with the drift behind it. 0.15 is the simulator's own."""
FIRST_SEED: Final = 1001
"""The gates were settled on simulated markets of smaller seeds; nobody had looked at these."""
MARKETS_PER_PLANTED: Final = 10
"""Markets without an edge to one with each planted edge."""
_PLANTED_SEEDS_FROM: Final = 1_000_000

MarketKind = Literal["simulated", "sign", "order"]
KIND_IN_WORDS: Final[dict[str, str]] = {
    "simulated": "simulated, stochastic volatility",
    "sign": "recorded days, each bar mirrored by a coin",
    "order": "recorded bars in random order",
}


class Market(BaseModel):
    """A market whose truth is known, and how much of it the platform gets to see."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: MarketKind
    seed: int = Field(ge=0)
    edge: float = Field(0.0, ge=0, le=1, description="Planted by the simulator; 0 is a market without")
    days: int = Field(ge=5)
    symbols: tuple[str, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """What it is, in words, whatever its seed."""
        return f"simulated, planted edge {self.edge:g}" if self.edge else KIND_IN_WORDS[self.kind]


class MarketOutcome(BaseModel):
    """What the platform made of one market."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    market: Market
    family: str = Field(description="Of the candidate that was registered")
    promoted: bool
    refused_by: tuple[str, ...] = Field(description="Gates that refused it; empty if it was promoted")
    against_champion: LossComparison
    against_base_rate: LossComparison
    test_rows: int
    seconds: float = Field(description="Of processor time")

    @property
    def verdict(self) -> str:
        """What became of the candidate, in words."""
        return "promoted" if self.promoted else f"refused by {', '.join(self.refused_by)}"

    @property
    def evidence(self) -> float:
        """How far the log loss lies below the harder reference, in units of what is demanded: promoted above 1."""
        harder = max(self.against_champion, self.against_base_rate, key=lambda found: found.upper_999)
        margin = harder.upper_999 - harder.mean
        return -harder.mean / margin if margin > 0.0 else 0.0


class Share(BaseModel):
    """Promotions among markets of one kind, with the exact two-sided 95 % interval of the share."""

    model_config = ConfigDict(frozen=True)

    name: str
    edge: float
    markets: int
    promoted: int
    share: float
    lower_95: float
    upper_95: float
    mean_evidence: float


class Platform(BaseModel):
    """What was tried: the settings every market was run with, and the code."""

    model_config = ConfigDict(frozen=True)

    code_version: str
    seed: int
    timeframe: str
    horizon_bars: int
    days: int
    symbols: tuple[str, ...]
    feature_set: str
    families: tuple[str, ...]
    profile: str
    recorded: str | None = Field(description="Where recorded candles came from; None where all markets are simulated")


class Certificate(BaseModel):
    """What a whole run proves."""

    model_config = ConfigDict(frozen=True)

    format: Literal["levibot-certificate/1"] = CERTIFICATE_FORMAT
    created_at: AwareDatetime
    platform: Platform
    markets: int = Field(description="Without an edge")
    false_promotions: int
    share: float
    upper_bound_95: float = Field(description="The true share is at most this, with 95 % confidence, one-sided, exact")
    kinds: tuple[Share, ...] = Field(description="Markets without an edge, by kind")
    power: tuple[Share, ...] = Field(description="Markets with one, by its size")
    processor_seconds: float
    outcomes: tuple[MarketOutcome, ...]


def plan_markets(
    markets: int,
    seed: int,
    days: int,
    symbols: Sequence[str],
    *,
    recorded: bool,
    planted: int | None = None,
    edges: Sequence[float] = EDGES,
) -> tuple[Market, ...]:
    """The markets of a certificate: `markets` without an edge, and `planted` of each planted edge.

    With recorded candles every other market without an edge is made of them, of these every other one without its sign
    and one without its order. A longer plan of the same seed begins with the same markets of each kind, so that
    finished ones count for it.

    Args:
        markets: How many without an edge, at least 1.
        seed: Of the first market; the others have the numbers after it.
        days: Length of each, days.
        symbols: What they trade.
        recorded: Whether there are recorded candles to draw from.
        planted: How many of each planted edge, at least 1; a tenth of `markets`, at least two, if None.
        edges: Sizes of the planted ones.
    """
    cycle: tuple[MarketKind, ...] = ("simulated", "sign", "simulated", "order") if recorded else ("simulated",)
    shape = {"days": days, "symbols": tuple(symbols)}
    without = (Market(kind=cycle[number % len(cycle)], seed=seed + number, **shape) for number in range(markets))
    each = max(2, markets // MARKETS_PER_PLANTED) if planted is None else planted
    with_edge = (
        Market(kind="simulated", seed=_PLANTED_SEEDS_FROM * (size + 1) + seed + number, edge=edge, **shape)
        for number in range(each)
        for size, edge in enumerate(edges)
    )
    return (*without, *with_edge)


def certify_outcomes(outcomes: Sequence[MarketOutcome], platform: Platform, created_at: AwareDatetime) -> Certificate:
    """What finished markets prove; at least one has to be without an edge."""
    without = [outcome for outcome in outcomes if not outcome.market.edge]
    false = sum(outcome.promoted for outcome in without)
    planted = sorted({outcome.market.edge for outcome in outcomes} - {0.0})
    return Certificate(
        created_at=created_at,
        platform=platform,
        markets=len(without),
        false_promotions=false,
        share=false / len(without),
        upper_bound_95=upper_bound(false, len(without)),
        kinds=tuple(_share(group) for group in _by_name(without)),
        power=tuple(_share([one for one in outcomes if one.market.edge == edge]) for edge in planted),
        processor_seconds=sum(outcome.seconds for outcome in outcomes),
        outcomes=tuple(outcomes),
    )


def _by_name(outcomes: Iterable[MarketOutcome]) -> list[list[MarketOutcome]]:
    groups: dict[str, list[MarketOutcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.market.name, []).append(outcome)
    return list(groups.values())


def _share(group: Sequence[MarketOutcome]) -> Share:
    promoted = sum(outcome.promoted for outcome in group)
    lower, upper = exact_share_95(promoted, len(group))
    return Share(
        name=group[0].market.name,
        edge=group[0].market.edge,
        markets=len(group),
        promoted=promoted,
        share=promoted / len(group),
        lower_95=lower,
        upper_95=upper,
        mean_evidence=fmean(outcome.evidence for outcome in group),
    )
