{#
  A table of the lake, or an empty relation with its columns where no file exists yet: a source may have no funding
  rates or no index, and a home is built before anything was ingested.

  columns: names and DuckDB types, in order. Hive keys of the path count as columns.
#}
{% macro lake_table(name, columns) %}
    {%- set relation = source('lake', name) -%}
    {%- set present = true -%}
    {%- if execute -%}
        {%- set pattern = var('lake', 'lake') ~ '/' ~ name ~ '/**/part.parquet' -%}
        {%- set found = run_query("select count(*) from glob('" ~ pattern | replace("'", "''") ~ "')") -%}
        {%- set present = found.columns[0].values()[0] > 0 -%}
    {%- endif -%}
    {%- if present -%}
        {{ relation }}
    {%- else -%}
        (select {% for column, type in columns.items() %}null::{{ type }} as {{ column }}{{ ", " if not loop.last }}{% endfor %} where false)
    {%- endif -%}
{% endmacro %}
