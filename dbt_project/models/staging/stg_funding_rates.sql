with funding_rates as (
    select *
    from {{ lake_table('funding_rates', {
        'symbol': 'varchar', 'ts': 'timestamptz', 'rate': 'double', 'known_at': 'timestamptz',
        'revision': 'integer', 'venue': 'varchar', 'source': 'varchar'
    }) }}
)

select source, symbol, ts, rate, known_at, revision, venue
from funding_rates
{{ newest_revision(['source', 'symbol', 'ts']) }}
