select
    source,
    market,
    timeframe,
    symbol,
    date_trunc('hour', ts) as hour,
    arg_min(open, ts) as open,
    max(high) as high,
    min(low) as low,
    arg_max(close, ts) as close,
    sum(volume) as volume,
    count(*) as bars,
    count(*) = 3600 / any_value(bar_seconds) as is_complete
from {{ ref('stg_candles') }}
-- A bar longer than an hour has no hour of its own.
where bar_seconds <= 3600
group by all
