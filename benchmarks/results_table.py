"""Print the kept results as Markdown, as they stand in `benchmarks/README.md`."""

import json
import sys
from typing import Any

from benchmarks.report import RESULTS, claim_rows, problems, titled_rows


def main() -> int:
    """Print every kept result; return the exit code."""
    files = sorted(RESULTS.glob("*.json"))
    if not files:
        sys.stderr.write(f"Expected results in {RESULTS}, found none; run make bench.\n")
        return 1
    for file in files:
        sys.stdout.write(_section(json.loads(file.read_text("utf-8"))))
    return 0


def _section(payload: dict[str, Any]) -> str:
    machine = payload["machine"]
    lines = [
        f"### {payload['name']}",
        "",
        f"{payload['about']}. Measured {payload['measured_at']}, {payload['runs']} runs, on {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, Python {machine['python']}.",
        "",
        *_markdown(claim_rows(payload)),
        "",
        *(line for title, rows in titled_rows(payload) for line in _titled(title, rows)),
        *(f"* {name}: {problem.splitlines()[0]}" for name, problem in problems(payload)),
        "",
    ]
    return "\n".join(lines)


def _titled(title: str | None, rows: list[list[str]]) -> list[str]:
    return [*([f"#### {title}", ""] if title else []), *_markdown(rows), ""]


def _markdown(rows: list[list[str]]) -> list[str]:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [header, f"|{'---|' * len(rows[0])}", *body]


if __name__ == "__main__":
    sys.exit(main())
