"""The candidate's backtest on untouched rows, after costs."""
