"""The outcomes of `model_table` as tables of texts: three per case, as a dozen figures do not fit one.

Where the figures come from is `model_scores`' business.
"""

from collections.abc import Mapping

from benchmarks.harness import Outcome
from benchmarks.model_scores import Spread
from benchmarks.report import TitledTable

NOTHING = "-"


def tables_of(case: str, outcome: Outcome) -> list[TitledTable]:
    """How well rows are ranked, how good the probabilities are, and what they earned; one model a row."""
    models: Mapping[str, Outcome] = outcome["models"]
    facts = outcome["facts"]
    return [
        TitledTable(
            f"{case}: ranking ({facts['rows']:,} rows, {facts['share_of_rises']:.2%} rises)",
            [
                ["model", "seeds", "AUC", "95 % interval", "accuracy", "of the surest 5 %", "1 %", "rank IC"],
                *([name, *_ranking(found)] for name, found in models.items()),
            ],
        ),
        TitledTable(
            f"{case}: probabilities (differences in 1e-4; base rate {facts['base_rate_log_loss']:.5f}; "
            f"a constant's ECE by chance {facts['ece_by_chance']:.4f}, seldom above {facts['ece_by_chance_95']:.4f})",
            [
                ["model", "log loss", "less base rate's", "less a half's", "ECE", "95 % interval", "debiased", "level"],
                *([name, *_probabilities(found)] for name, found in models.items()),
            ],
        ),
        TitledTable(
            f"{case}: after costs of 20 basis points a side",
            [
                ["model", "Sharpe", "deflated", "days traded", "return, %", "Sharpe of every forecast"],
                *([name, *_money(found)] for name, found in models.items()),
            ],
        ),
    ]


def with_deviation(found: Spread, digits: int, scale: float = 1.0) -> str:
    """A mean over seeds, with their deviation where there are several and it is not 0."""
    mean, deviation = found["mean"], found["deviation"]
    if mean is None:
        return NOTHING
    text = f"{mean * scale:.{digits}f}"
    return text if not deviation else f"{text} ± {deviation * scale:.{digits}f}"


def _ranking(found: Outcome) -> list[str]:
    return [
        str(found["seeds"]),
        with_deviation(found["auc"], 4),
        f"{found['auc_lower_95']:.4f} to {found['auc_upper_95']:.4f}",
        *(
            with_deviation(found[figure], 4)
            for figure in ("accuracy", "accuracy_of_most_confident_5%", "accuracy_of_most_confident_1%", "rank_ic")
        ),
    ]


def _probabilities(found: Outcome) -> list[str]:
    return [
        with_deviation(found["log_loss"], 5),
        f"{found['against_base_rate_e4']['mean']:+.1f} ({_interval(found, 'against_base_rate')})",
        f"{found['against_a_half_e4']:+.1f} ({_interval(found, 'against_a_half')})",
        with_deviation(found["ece"], 4),
        f"{found['ece_lower_95']:.4f} to {found['ece_upper_95']:.4f}",
        f"{found['ece_debiased']:.4f}",
        with_deviation(found["level"], 4),
    ]


def _money(found: Outcome) -> list[str]:
    return [
        with_deviation(found["sharpe"], 2),
        with_deviation(found["deflated_sharpe"], 3),
        with_deviation(found["days_traded"], 1),
        with_deviation(found["return"], 1, 100.0),
        with_deviation(found["sharpe_of_every_forecast"], 1),
    ]


def _interval(found: Outcome, figure: str) -> str:
    return f"{found[f'{figure}_lower_95_e4']:+.1f} to {found[f'{figure}_upper_95_e4']:+.1f}"
