with fear_greed as (
    select *
    from {{ lake_table('fear_greed', {
        'ts': 'timestamptz', 'value': 'integer', 'classification': 'varchar', 'known_at': 'timestamptz',
        'revision': 'integer', 'venue': 'varchar', 'source': 'varchar'
    }) }}
)

select source, ts, value, classification, known_at, revision, venue
from fear_greed
{{ newest_revision(['source', 'ts']) }}
