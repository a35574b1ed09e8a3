with bars as (
    select
        *,
        date_trunc('month', ts) as month,
        lag(ts) over (partition by source, market, timeframe, symbol order by ts) as previous_ts
    from {{ ref('stg_candles') }}
),

gaps as (
    select
        *,
        -- Counted in the month of the bar that ends the gap.
        coalesce(cast(epoch(ts - previous_ts) as bigint) // bar_seconds - 1, 0) as missing_before
    from bars
)

select
    source,
    market,
    timeframe,
    symbol,
    month,
    count(*) as bars,
    count(*) + sum(missing_before) as expected_bars,
    sum(missing_before) as missing_bars,
    max(missing_before) as longest_gap_bars,
    case
        when max(missing_before) > 0
            then arg_max(previous_ts + to_seconds(bar_seconds), missing_before)
    end as longest_gap_start,
    count(*) filter (volume = 0) as zero_volume_bars,
    count(*) filter (revision > 0) as corrected_bars,
    min(ts) as first_ts,
    max(ts) as last_ts
from gaps
group by all
