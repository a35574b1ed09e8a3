{# Keep the newest revision of each row; `key` lists the columns that identify one. #}
{% macro newest_revision(key) -%}
    qualify row_number() over (partition by {{ key | join(", ") }} order by revision desc) = 1
{%- endmacro %}
