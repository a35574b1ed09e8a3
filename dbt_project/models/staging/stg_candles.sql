with candles as (
    select *
    from {{ lake_table('candles', {
        'symbol': 'varchar', 'ts': 'timestamptz', 'open': 'double', 'high': 'double', 'low': 'double',
        'close': 'double', 'volume': 'double', 'known_at': 'timestamptz', 'revision': 'integer', 'venue': 'varchar',
        'source': 'varchar', 'market': 'varchar', 'timeframe': 'varchar'
    }) }}
)

select
    source,
    market,
    timeframe,
    symbol,
    ts,
    open,
    high,
    low,
    close,
    volume,
    known_at,
    revision,
    venue,
    cast(regexp_extract(timeframe, '^\d+') as integer)
        * case right(timeframe, 1) when 'm' then 60 when 'h' then 3600 else 86400 end as bar_seconds
from candles
{{ newest_revision(['source', 'market', 'timeframe', 'symbol', 'ts']) }}
