"""The `levibot` command: tables for people, `--json` for machines, exit code 0 only on success."""
