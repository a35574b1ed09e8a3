"""`python -m levibot_pipelines.cli`, for where console scripts are not on the path."""

from levibot_pipelines.cli.main import console

console()
