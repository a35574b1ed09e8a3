"""A static rule against look-ahead in feature code: negative shifts, centred windows and fills from the future.

It reads the syntax tree and runs nothing. What code does when it runs is checked in
`levibot_core.validation.leakage`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SHIFTS = {"shift", "roll", "diff", "pct_change", "lagged"}
_SHIFT_ARGUMENTS = {"n", "periods", "shift", "lag"}
_FILLS = {"fill_null", "fillna", "interpolate"}
_BACKWARD_FILLS = {"bfill", "backfill", "backward_fill"}
_FILL_WORDS = {"backward", "bfill", "backfill", "max", "min", "mean"}
_JOINS = {"join_asof", "merge_asof"}
_JOIN_WORDS = {"forward", "nearest"}
# `np.roll` brings the end of an array to its beginning whatever its sign.
_WRAPS_AROUND = {"roll"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A place in the code that can look ahead."""

    path: str
    line: int
    rule: str
    code: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.code}"


def scan_feature_code(path: Path) -> list[Finding]:
    """Find look-ahead in a Python file, or in every Python file below a folder.

    Rules: `negative_shift` (a shift, difference or lag by a negative number), `wrap_around` (`roll`),
    `centred_window` (`center=True`), `fill_from_future` (a backward fill, or one with a statistic of the whole
    column) and `join_with_future` (an as-of join that looks forward).

    Returns:
        Findings in order of path and line; empty when there are none.

    Raises:
        SyntaxError: a file is not Python.
    """
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    findings = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"), filename=str(file))):
            if isinstance(node, ast.Call):
                findings += [Finding(str(file), node.lineno, rule, ast.unparse(node)) for rule in _broken_rules(node)]
    return sorted(findings, key=lambda finding: (finding.path, finding.line))


def _broken_rules(call: ast.Call) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    values = [*call.args, *keywords.values()]
    if name in _WRAPS_AROUND:
        yield "wrap_around"
    elif name in _SHIFTS and any(
        _is_negative(value) for value in [*call.args, *(keywords[key] for key in keywords.keys() & _SHIFT_ARGUMENTS)]
    ):
        yield "negative_shift"
    center = keywords.get("center")
    if center is not None and not (isinstance(center, ast.Constant) and center.value is False):
        yield "centred_window"
    if name in _BACKWARD_FILLS or (name in _FILLS and any(_is_word(value, _FILL_WORDS) for value in values)):
        yield "fill_from_future"
    if name in _JOINS and any(_is_word(value, _JOIN_WORDS) for value in values):
        yield "join_with_future"


def _is_negative(value: ast.expr) -> bool:
    return isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub)


def _is_word(value: ast.expr, words: set[str]) -> bool:
    return isinstance(value, ast.Constant) and value.value in words
