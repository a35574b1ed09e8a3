"""Homes of before the audit log: what they recorded then is in it from now on, once."""

import json

import pytest

from levibot_core.errors import AuditLogError
from levibot_core.registry.alias_database import AliasDatabase
from levibot_core.registry.champions import champions, changes
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home


def test_promotions_of_before_the_audit_log_are_taken_over_once(registry_home: Home) -> None:
    registry = AliasDatabase(registry_home, "levibot-5m-h12")

    def line(before: int | None, after: int) -> str:
        time = f"2026-01-0{after}T00:00:00.000+00:00"
        record = {"time": time, "actor": "ada", "model": registry.model_name, "alias": "champion"}
        return json.dumps({**record, "from": before, "to": after, "reason": "then"}) + "\n"

    old, log = registry_home.logs / "promotions.jsonl", AuditLog(registry_home.audit_log)
    old.write_text(line(None, 1) + "no promotion\n")
    with pytest.raises(AuditLogError, match=r"line 2 of logs/promotions\.jsonl"):
        changes(registry)
    assert (log.read(), old.exists()) == ([], True)

    both = line(None, 1) + line(1, 2)
    old.write_text(both)
    assert [(change.from_version, change.to_version) for change in changes(registry)] == [(None, 1), (1, 2)]
    old.write_text(both)  # As if it had been killed before the file was put away.
    assert champions(registry) == [1, 2]
    assert [record.event for record in log.read()] == ["earlier_promotions"]
    assert (old.exists(), log.verify().intact) == (False, True)
