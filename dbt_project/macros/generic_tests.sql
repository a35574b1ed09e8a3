{# No two rows share these columns. #}
{% test unique_combination(model, columns) %}
    select {{ columns | join(", ") }}
    from {{ model }}
    group by all
    having count(*) > 1
{% endtest %}

{# Values lie between the bounds; a bound that is left out does not bind. #}
{% test within(model, column_name, at_least=none, at_most=none) %}
    select *
    from {{ model }}
    where false
        {% if at_least is not none %}or {{ column_name }} < {{ at_least }}{% endif %}
        {% if at_most is not none %}or {{ column_name }} > {{ at_most }}{% endif %}
{% endtest %}

{# A bar's high and low enclose its open and close, and no price is zero or less. #}
{% test ohlc_consistent(model) %}
    select *
    from {{ model }}
    where high < greatest(open, close)
        or low > least(open, close)
        or low <= 0
{% endtest %}
