"""Exceptions raised by the platform.

Every message says what was expected, what was found and what to do. Callers at an edge (command line,
Dagster, HTTP) catch `LevibotError` and show the message; anything else is a defect and keeps its traceback.
"""

__all__ = [
    "AuditLogError",
    "BundleError",
    "ConfigurationError",
    "CredentialError",
    "DataQualityError",
    "ExplanationError",
    "HomeBusyError",
    "HomeNotWritableError",
    "LakeCorruptionError",
    "LevibotError",
    "MarketDataUnavailableError",
    "MissingFeatureError",
    "OnlineStoreError",
    "RegistryError",
    "SchemaError",
    "SnapshotError",
    "SnapshotNotFoundError",
    "SourceUnreachableError",
    "StaleFeatureError",
    "UnknownSymbolError",
    "UnusableCandlesError",
    "WorkerDiedError",
]


class LevibotError(Exception):
    """Base of every error a person can act on."""


class ConfigurationError(LevibotError):
    """A setting has a value that cannot be used."""


class HomeBusyError(LevibotError):
    """Another process is working on this LEVIBOT_HOME."""


class HomeNotWritableError(LevibotError):
    """LEVIBOT_HOME cannot be written: read-only, no permission or no space left."""


class UnknownSymbolError(LevibotError):
    """A symbol is malformed, or not among those the platform or the model knows."""


class MarketDataUnavailableError(LevibotError):
    """A source answered, but has no data for what was asked."""


class SourceUnreachableError(LevibotError):
    """A source did not answer, after the retries it is entitled to."""


class SchemaError(LevibotError):
    """A table does not have the columns, types or key that the catalogue declares."""


class DataQualityError(LevibotError):
    """Data broke a blocking quality rule."""


class ExplanationError(LevibotError):
    """A forecast cannot be taken apart, as models of that kind have no SHAP values."""


class LakeCorruptionError(LevibotError):
    """A file of the lake cannot be read."""


class SnapshotError(LevibotError):
    """A training snapshot cannot be built, or its bytes are not what its manifest says."""


class SnapshotNotFoundError(SnapshotError):
    """No snapshot has the requested id."""


class MissingFeatureError(LevibotError):
    """A model was asked to predict without every feature it needs. Never answered with a zero."""


class UnusableCandlesError(LevibotError):
    """Candles that someone sent cannot be computed from.

    Attributes:
        cause: One word for programs: `too_few`, `gap`, `unclosed`, `not_finite`, `impossible`, `off_grid` or
            `out_of_order`.
        needed: Successive bars that are needed, the newest closed one included.
    """

    def __init__(self, message: str, cause: str, needed: int) -> None:
        super().__init__(message)
        self.cause = cause
        self.needed = needed


class StaleFeatureError(MissingFeatureError):
    """The features a model needs were there, but are older than their reader allows."""


class OnlineStoreError(LevibotError):
    """The online store does not answer, refuses, or holds something that cannot be read."""


class BundleError(LevibotError):
    """A model bundle is incomplete, altered or of an unknown format."""


class RegistryError(LevibotError):
    """The model registry refused an operation or lacks what was asked for."""


class AuditLogError(LevibotError):
    """The audit log holds something that is no record of it."""


class WorkerDiedError(LevibotError):
    """A process that shared the work ended in the middle of it."""


class CredentialError(LevibotError):
    """A user, a password, a key or a token cannot be used."""
