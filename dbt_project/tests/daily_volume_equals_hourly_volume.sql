{{ config(meta={"dagster": {"ref": {"name": "mart_candles_daily"}}}) }}
-- The two marts are built from the same bars: a day's volume is the volume of its hours.
with hourly as (
    select source, market, timeframe, symbol, date_trunc('day', hour) as day, sum(volume) as volume, sum(bars) as bars
    from {{ ref('mart_candles_hourly') }}
    group by all
)

select daily.*
from {{ ref('mart_candles_daily') }} as daily
join hourly using (source, market, timeframe, symbol, day)
where daily.bars != hourly.bars
    or abs(daily.volume - hourly.volume) > 1e-9 * greatest(daily.volume, 1)
