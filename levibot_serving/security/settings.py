"""What a person may set about security. Every field is an environment variable `LEVIBOT_<FIELD>`."""

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from levibot_core.config import Settings
from levibot_core.security.signing_keys import SigningKey, key_from_secret
from levibot_core.security.strength import refuse_weak_secret

Network = IPv4Network | IPv6Network
Networks = Annotated[tuple[Network, ...], NoDecode]


class SecuritySettings(Settings):
    """Tokens, limits, addresses. There is no setting that turns authentication off."""

    environment: Literal["production", "development"] = Field(
        "production", description="`development` accepts weak secrets from the environment"
    )
    signing_key: SecretStr | None = Field(
        None, description="Key to sign tokens with; a file of the home when unset. Random, at least 32 bytes"
    )
    previous_signing_key: SecretStr | None = Field(
        None, description="The key before `signing_key`, accepted until its tokens have expired"
    )
    access_token_seconds: int = Field(900, ge=30, le=86_400, description="How long an access token works")
    refresh_token_days: float = Field(7.0, gt=0, le=90, description="How long a refresh token works, unless used")
    console_session_hours: float = Field(8.0, gt=0, le=168, description="How long the console's cookie works")
    predict_per_minute: int = Field(60, ge=1, description="Forecasts per minute, user and address")
    engine_predict_per_minute: int = Field(
        1200, ge=1, description="The same for the role service: 15 symbols a second are 900"
    )
    login_attempts_per_minute: int = Field(10, ge=1, description="Sign-ins tried per minute and address")
    admin_addresses: Networks = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1/128")),
        description="Comma-separated networks from which endpoints for admins alone may be called",
    )
    trusted_proxies: Networks = Field(
        (), description="Comma-separated networks of proxies whose X-Forwarded-For and -Proto are believed"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated origins whose pages may call the API, such as https://desk.example"
    )
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token that may read /metrics and nothing else, for Prometheus"
    )
    max_body_bytes: int = Field(2 << 20, ge=1024, description="Largest request body; larger ones are refused with 413")
    request_seconds: float = Field(30.0, gt=0, description="Longest time for a request; streams are not limited")

    @field_validator("admin_addresses", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _no_wildcard(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("*" in origin for origin in value):
            raise ValueError("Expected origins by name; a wildcard would let every page call the API")
        return value

    @property
    def longest_token_seconds(self) -> float:
        """How long a token works at most: so long an old signing key is still needed."""
        return max(self.access_token_seconds, self.console_session_hours * 3600)

    def environment_keys(self) -> tuple[SigningKey, ...] | None:
        """The signing keys of the environment, the one to sign with last; None where the home's file holds them.

        Raises:
            CredentialError: one can be guessed, and this is not development.
        """
        if self.signing_key is None:
            return None
        given = [
            (name, secret.get_secret_value())
            for name, secret in (
                ("LEVIBOT_PREVIOUS_SIGNING_KEY", self.previous_signing_key),
                ("LEVIBOT_SIGNING_KEY", self.signing_key),
            )
            if secret is not None
        ]
        if self.environment == "production":
            for name, secret in given:
                refuse_weak_secret(secret, name)
        return tuple(key_from_secret(secret, datetime.now(UTC)) for _, secret in given)

    def scrape_token(self) -> bytes | None:
        """The token that may read the metrics.

        Raises:
            CredentialError: it can be guessed, and this is not development.
        """
        if self.metrics_token is None:
            return None
        secret = self.metrics_token.get_secret_value()
        if self.environment == "production":
            refuse_weak_secret(secret, "LEVIBOT_METRICS_TOKEN")
        return secret.encode()
