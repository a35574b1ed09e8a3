"""File stores: where things lie in a home, the Parquet lake, training snapshots and the online feature store."""
