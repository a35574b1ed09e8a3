"""The nightly certificate of a home: where it is kept, and its figures for people.

Making one is `.certification`'s work, judging it `levibot_core.validation.certificate_verdict`'s.
"""

from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from levibot_core.errors import RegistryError
from levibot_core.stores.paths import Home
from levibot_core.validation.certificate import Certificate
from levibot_core.validation.certificate_verdict import judge_certificate


def nightly_folder(home: Home) -> Path:
    """Where the nightly certificate is kept: apart from those that people ask for, which may have more markets."""
    return home.reports / "certificate_nightly"


def read_nightly(home: Home) -> Certificate:
    """The newest nightly certificate.

    Raises:
        RegistryError: there is none, or it cannot be read.
    """
    path = nightly_folder(home) / "certificate.json"
    try:
        return Certificate.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RegistryError(
            f"Expected a certificate in {path}, but {error}. Materialise certificate/report."
        ) from error


def certificate_metadata(certificate: Certificate) -> dict[str, Any]:
    """The figures of a certificate that people look at first."""
    verdict = judge_certificate(certificate)
    return {
        "found": verdict.found,
        "required": verdict.required,
        "markets": certificate.markets,
        "false_promotions": certificate.false_promotions,
        "upper_bound_95": certificate.upper_bound_95,
        "most_explained": verdict.most_explained,
        "proves_5_percent": verdict.proven,
        "would_be_noticed": f"a share of {verdict.noticed_share:.0%}, in 9 of 10 runs",
        "processor_hours": round(certificate.processor_seconds / 3600, 2),
        "seed": certificate.platform.seed,
        "code_version": certificate.platform.code_version,
    }


def shares(certificate: Certificate) -> pl.DataFrame:
    """Promotions by kind of market and by planted edge: market, promoted, 95 % interval, mean evidence."""
    return pl.DataFrame(
        [
            (
                share.name,
                f"{share.promoted} of {share.markets}",
                f"{share.lower_95:.1%} to {share.upper_95:.1%}",
                share.mean_evidence,
            )
            for share in (*certificate.kinds, *certificate.power)
        ],
        schema={"market": pl.String(), "promoted": pl.String(), "share_95": pl.String(), "evidence": pl.Float64()},
        orient="row",
    )
