"""What a certificate says against the platform: more false promotions than what is allowed would explain.

Few markets prove little: none of 20 promoted leaves 13.9 % possible, so to demand a proof of 5 % of twenty would fail
the best platform there can be. Of few markets it is asked whether they refute; of many, whether they prove.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import binom

from levibot_core.validation.certificate import Certificate
from levibot_core.validation.exact_share import upper_bound

ALLOWED_SHARE: Final = 0.05
"""Share of markets without an edge that may be promoted."""
FEWEST_FOR_PROOF: Final = 59
"""Markets whose upper 95 % bound can be below the allowed share at all: none of them promoted."""


class CertificateVerdict(BaseModel):
    """Whether a certificate speaks against the platform."""

    model_config = ConfigDict(frozen=True)

    refuted: bool = Field(description="The allowed share explains as many false promotions in less than 5 % of runs")
    proven: bool = Field(description="The upper 95 % bound is at most the allowed share")
    most_explained: int = Field(description="False promotions that the allowed share still explains")
    noticed_share: float = Field(description="A true share that as many markets would refute in 9 of 10 runs")
    found: str
    required: str


def judge_certificate(certificate: Certificate) -> CertificateVerdict:
    """Hold the false promotions of a certificate against the share that is allowed."""
    markets, false = certificate.markets, certificate.false_promotions
    most = most_explained(markets)
    proven = certificate.upper_bound_95 <= ALLOWED_SHARE
    says = f"at most {certificate.upper_bound_95:.1%} with 95 % confidence"
    more = "" if proven or markets >= FEWEST_FOR_PROOF else f"; {FEWEST_FOR_PROOF} without any would prove the 5 %"
    return CertificateVerdict(
        refuted=false > most,
        proven=proven,
        most_explained=most,
        noticed_share=upper_bound(most, markets, 0.9),
        found=f"{false} of {markets} markets without an edge were promoted: {says}{more}",
        required=f"at most {most}, which is what a share of {ALLOWED_SHARE:.0%} explains",
    )


def most_explained(markets: int) -> int:
    """Of markets promoted with the allowed share, more than this many are seen with a chance of at most 5 %.

    The 95 % quantile of the binomial distribution: 3 of 20, 15 of 200.
    """
    return int(binom.ppf(0.95, markets, ALLOWED_SHARE))
