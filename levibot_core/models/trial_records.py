"""From the trials of studies to rows of the lifetime ledger, those of abandoned studies included.

The ledger itself is `levibot_core.stores.trial_ledger`.
"""

import json
from datetime import date
from pathlib import Path

import polars as pl

from levibot_core.models.study import ResumableStudy, study_names
from levibot_core.models.tuning import FIGURES, trials_frame
from levibot_core.stores.trial_ledger import LEDGER_SCHEMA, TrialLedger


def record_trials(location: Path | str, ledger: TrialLedger, model_name: str) -> int:
    """Add every finished trial of every study of a model that the ledger lacks; return how many they were.

    All studies are looked at that changed since they were last recorded, and so also one that was killed and never
    resumed, because its inputs are gone: its trials were run, and count.

    Args:
        location: Where studies are kept: a folder of journals, or the address of a database.
        ledger: Where the trials go.
        model_name: Model whose studies are recorded.

    Raises:
        HomeNotWritableError: the ledger or a journal cannot be written.
        LakeCorruptionError: a file of the ledger cannot be read.
        ConfigurationError: the database does not answer.
    """
    added = 0
    for name, changed in sorted(study_names(location).items()):
        if name.startswith(model_name) and changed > ledger.recorded_until(name):
            study = ResumableStudy(location, name)
            if study.about.get("model_name") == model_name:
                added += ledger.append(ledger_rows(study))
    return added


def ledger_rows(study: ResumableStudy) -> pl.DataFrame:
    """The finished trials of a study, in the columns of the ledger."""
    about, trials = study.about, trials_frame(study.finished)
    names = [name for name in trials.columns if name not in FIGURES]
    parameters = [json.dumps(dict(zip(names, row, strict=True))) for row in trials.select(names).rows()]
    days = pl.Series("days", [[date.fromisoformat(day) for day in about["days"]]], LEDGER_SCHEMA["days"])
    return trials.with_columns(
        **{name: pl.lit(about[name], LEDGER_SCHEMA[name]) for name in ("model_name", "family", "snapshot_id", "seed")},
        study=pl.lit(study.name),
        trial="number",
        parameters=pl.Series(parameters, dtype=pl.String()),
        days=pl.lit(days).first(),
    ).select(LEDGER_SCHEMA.names())
