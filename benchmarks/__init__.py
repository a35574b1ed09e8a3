"""What the platform claims about speed, measured against peers in the same run. Start at `benchmarks/README.md`.

Nothing here is imported by the platform.
"""
