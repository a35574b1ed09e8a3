"""Which passwords and secrets are too weak to be taken. How passwords are kept is in `passwords`."""

import re
from typing import Final

from levibot_core.errors import CredentialError

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
SHORTEST_SECRET: Final = 32
"""Bytes of a key for HMAC with SHA-256: as many as its output has (RFC 7518, section 3.2)."""
_FEWEST_DISTINCT: Final = 5
_FEWEST_DISTINCT_OF_SECRET: Final = 12
_FEWEST_LEFT: Final = 6
_SHORTEST_NAME: Final = 3
_WORST: Final = (
    *("passw0rd", "password", "passwort", "passphrase", "letmein", "welcome", "changeme", "default", "iloveyou"),
    *("administrator", "admin", "trader", "viewer", "service", "levibot", "bitcoin", "trading", "secret", "dragon"),
    *("1q2w3e4r5t", "1qaz2wsx", "qwertyuiop", "qwerty", "asdfghjkl", "zxcvbnm", "abcdefgh", "abc", "monkey"),
    *("0123456789", "1234567890", "12345678", "123456", "9876543210", "987654321", "111111", "000000"),
)


def refuse_weak_password(password: str, name: str) -> None:
    """Refuse what would be guessed among the first.

    Args:
        password: The password as it was typed.
        name: The name of its user.

    Raises:
        CredentialError: it is too short or too long, repeats few characters, contains the name, or is little more
            than one of the worst passwords. The message does not repeat it.
    """
    folded = password.casefold()
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise CredentialError(
            f"Expected a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, was {len(password)}. "
            "A few words that do not belong together make a good one."
        )
    if len(set(folded)) < _FEWEST_DISTINCT:
        raise CredentialError(f"Expected at least {_FEWEST_DISTINCT} different characters in a password; take another.")
    if len(name) >= _SHORTEST_NAME and name.casefold() in folded:
        raise CredentialError("Expected a password that does not contain the name of its user; take another.")
    if len(_without_the_worst(folded)) < _FEWEST_LEFT:
        raise CredentialError("Expected a password that is not among the first to be guessed; take another.")


def refuse_weak_secret(secret: str, source: str) -> None:
    """Refuse a secret that a person made up, or that is too short to sign with.

    Args:
        secret: The secret.
        source: Where it is from, for the message: the name of a variable.

    Raises:
        CredentialError: it is too short, or not random. The message does not repeat it.
    """
    length, distinct = len(secret.encode()), len(set(secret))
    if length < SHORTEST_SECRET or distinct < _FEWEST_DISTINCT_OF_SECRET or not _looks_random(secret):
        raise CredentialError(
            f"Expected {source} to be random and at least {SHORTEST_SECRET} bytes long, but it can be guessed. Make "
            "one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`."
        )


def _looks_random(secret: str) -> bool:
    """Whether enough is left without common words and without letters that only follow one another."""
    return len(_without_the_worst(secret.casefold())) >= SHORTEST_SECRET // 2


def _without_the_worst(text: str) -> str:
    """What is left without the worst passwords and runs of one character."""
    left = re.sub(r"[\s_\-.!@#$%&*+=?]+", "", text)
    for word in _WORST:
        left = left.replace(word, "")
    return re.sub(r"(.)\1{2,}", r"\1", left)
