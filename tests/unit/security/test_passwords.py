from levibot_core.security.passwords import PasswordHashes

CHEAP = PasswordHashes(time_cost=1, memory_kib=8, parallelism=1)


def test_a_password_matches_its_own_hash_alone() -> None:
    first, second = CHEAP.hash("four unrelated words"), CHEAP.hash("four unrelated words")
    assert first != second
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert CHEAP.matches(first, "four unrelated words")
    assert not CHEAP.matches(first, "four unrelated word")
    assert not CHEAP.matches("no hash", "four unrelated words")


def test_nobody_has_a_password_and_checking_one_is_the_same_work() -> None:
    assert not CHEAP.matches(None, "four unrelated words")
    # The hash that stands for nobody has the parameters of real ones, and is a hash that can be checked.
    nobody, real = CHEAP._nobody, CHEAP.hash("x")
    assert nobody.split("$")[:4] == real.split("$")[:4]
    assert [len(part) for part in nobody.split("$")] == [len(part) for part in real.split("$")]


def test_a_password_may_hold_what_json_may_hold() -> None:
    assert CHEAP.matches(CHEAP.hash("half a \ud800 pair"), "half a \ud800 pair")


def test_the_defaults_are_those_of_the_rfc() -> None:
    assert "$m=65536,t=3,p=4$" in PasswordHashes()._nobody
