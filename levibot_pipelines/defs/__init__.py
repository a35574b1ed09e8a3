"""Every Dagster definition; one folder per stage, which is also its group name and key prefix."""
