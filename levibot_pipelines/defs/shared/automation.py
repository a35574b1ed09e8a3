"""When assets materialise by themselves: named conditions, composed from small parts.

The sensor that evaluates them (`automation`, in `levibot_pipelines.definitions`) is off until a person turns it on in
the Dagster UI, as Dagster does by default: a home on recorded candles has nothing new to wait for.
"""

import dagster as dg

from levibot_core.config import load_settings
from levibot_core.market.timeframe import Timeframe

_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000


def bar_cron(timeframe: Timeframe) -> str:
    """The cron schedule (UTC) that ticks at every close of a bar."""
    if timeframe.milliseconds < _HOUR_MS:
        return f"*/{timeframe.milliseconds // _MINUTE_MS} * * * *"
    if timeframe.milliseconds < _DAY_MS:
        return f"0 */{timeframe.milliseconds // _HOUR_MS} * * *"
    return "0 0 * * *"


# Candles and funding: at every close. Only the month under way is asked for.
every_bar = dg.AutomationCondition.on_cron(bar_cron(Timeframe.parse(load_settings().timeframe))).with_label("every_bar")

# Downstream data: when its inputs changed, nothing is under way, and every blocking check on the inputs passed.
# The last part matters: a blocking check stops a run, but not a run that automation would launch after it.
follows_inputs = (dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()).with_label(
    "follows_inputs"
)

# Drift: once a day, before the nightly retraining.
daily = dg.AutomationCondition.on_cron("30 2 * * *").with_label("daily")
