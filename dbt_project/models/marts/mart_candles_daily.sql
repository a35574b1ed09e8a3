with candles as (
    select
        source,
        market,
        timeframe,
        symbol,
        date_trunc('day', ts) as day,
        arg_min(open, ts) as open,
        max(high) as high,
        min(low) as low,
        arg_max(close, ts) as close,
        sum(volume) as volume,
        count(*) as bars,
        count(*) = 86400 / any_value(bar_seconds) as is_complete
    from {{ ref('stg_candles') }}
    group by all
),

funding as (
    select source, symbol, date_trunc('day', ts) as day, sum(rate) as funding_paid_by_longs
    from {{ ref('stg_funding_rates') }}
    group by all
)

select
    candles.*,
    funding.funding_paid_by_longs,
    -- The newest index known when the day began: the index of a day is known only after it ended.
    fear_greed.value as fear_greed_known_at_open
from candles
left join funding
    on candles.source = funding.source and candles.symbol = funding.symbol and candles.day = funding.day
asof left join {{ ref('stg_fear_greed') }} as fear_greed
    on candles.source = fear_greed.source and candles.day >= fear_greed.known_at
