"""Models: what is trained, tuned, calibrated, measured and described, and the pickle-free format it is kept in.

`bundle` is all that the serving layer needs; it and what it imports (`calibration`, `predictors`) load no data-frame,
plotting or training library. How candidates are judged is `levibot_core.validation`; where models are registered is
`levibot_pipelines.registry`.
"""
