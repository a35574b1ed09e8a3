"""The console: one page for people, rendered on the server from what the API and the reports of its home know.

It decides nothing and measures nothing, and asks no other process. `panels` gathers, one module per panel; `pages` and
`templates` lay out; `levibot_serving.routes.console` answers.
"""
