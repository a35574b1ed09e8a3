import pytest

from levibot_core.errors import CredentialError
from levibot_core.security.strength import refuse_weak_password, refuse_weak_secret


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short", "12 to 256"),
        ("x" * 257, "12 to 256"),
        ("abababababababab", "different characters"),
        ("my name is Adalbert", "name of its user"),
        ("password1234", "first to be guessed"),
        ("Password-Password", "first to be guessed"),
        ("123456789012", "first to be guessed"),
        ("qwertyuiop12", "first to be guessed"),
        ("Levibot-2026!", "first to be guessed"),
    ],
)
def test_weak_passwords_are_refused_and_not_repeated(password: str, why: str) -> None:
    with pytest.raises(CredentialError, match=why) as refused:
        refuse_weak_password(password, "adalbert")
    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "password", ["four unrelated words", "tr0ub4dor&3-xkcd", "ключ от старого дома", "9f3Kq-LLmz7wP0"]
)
def test_others_are_taken(password: str) -> None:
    refuse_weak_password(password, "adalbert")


@pytest.mark.parametrize("secret", ["", "changeme", "secret" * 20, "a" * 64, "0123456789" * 5, "abcdefgh" * 8])
def test_secrets_that_people_make_up_are_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(CredentialError, match="LEVIBOT_SIGNING_KEY") as refused:
        refuse_weak_secret(secret, "LEVIBOT_SIGNING_KEY")
    assert not secret or secret not in str(refused.value)


def test_random_secrets_are_taken() -> None:
    refuse_weak_secret("Zx8uFf3mQ0w1Yk5Lr7Tb2Nc9Vd4Hs6Jp", "LEVIBOT_SIGNING_KEY")
