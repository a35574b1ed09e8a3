"""A static rule against look-ahead in feature code: shifts, windows, fills, slices and loops that reach forward.

It reads the syntax tree and runs nothing, so it knows only what these mistakes usually look like. What code does when
it runs is checked in `levibot_core.validation.leakage`.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SHIFTS = {"shift", "roll", "diff", "pct_change", "lagged"}
_SHIFT_ARGUMENTS = {"n", "periods", "shift", "lag"}
_FILLS = {"fill_null", "fillna", "interpolate"}
_BACKWARD_FILLS = {"bfill", "backfill", "backward_fill"}
_FILL_WORDS = {"backward", "bfill", "backfill", "max", "min", "mean"}
_JOINS = {"join_asof", "merge_asof"}
_JOIN_WORDS = {"forward", "nearest"}
_ACCUMULATIONS = {"accumulate", "cumsum", "cumprod", "cummax", "cummin", "cum_sum", "cum_prod", "cum_max", "cum_min"}
_CONCATENATIONS = {"append", "concatenate", "hstack"}
_FITS = {"fit", "fit_transform", "partial_fit"}
_STATISTICS = {"mean", "std", "var", "median", "quantile", "percentile"}
_WHOLE_STATISTICS = _STATISTICS | {f"nan{name}" for name in _STATISTICS}
_NUMPY = {"np", "numpy"}
# Names that say how far; a loop that adds one to its own place and writes to that place reads what comes later.
_DISTANCES = {"lag", "lead", "ahead", "horizon"}
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
    column), `join_with_future` (an as-of join that looks forward), `reversed_accumulation` (a running sum or extreme
    over a whole series turned round), `whole_sample_statistic` (NumPy's mean, deviation or quantile of a whole array,
    without an axis), `fit_in_feature_code` (`fit`), `forward_slice` (a later stretch of an array put in an earlier
    place) and `forward_read` (a loop that writes place `i` from place `i + 1`, or from as many ahead as a lag or
    horizon).

    Returns:
        Findings in order of path and line; empty when there are none.

    Raises:
        SyntaxError: a file is not Python.
    """
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    findings = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"), filename=str(file))):
            for rule, place in _broken_rules(node):
                findings.add(Finding(str(file), place.lineno, rule, ast.unparse(place)))
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.rule))


def _broken_rules(node: ast.AST) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    if isinstance(node, ast.Call):
        yield from ((rule, node) for rule in (*_broken_by_call(node), *_broken_by_array_call(node)))
    elif isinstance(node, ast.Assign) and _puts_later_first(node):
        yield "forward_slice", node
    elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
        yield from (("forward_read", statement) for statement in _forward_reads(node, node.target.id))


def _broken_by_call(call: ast.Call) -> Iterator[str]:
    name = _name(call.func)
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


def _broken_by_array_call(call: ast.Call) -> Iterator[str]:
    name = _name(call.func)
    keywords = {keyword.arg for keyword in call.keywords}
    if name in _ACCUMULATIONS and ("reverse" in keywords or any(map(_is_reversed, [call.func, *call.args]))):
        yield "reversed_accumulation"
    if name in _CONCATENATIONS and any(map(_is_later_stretch, _joined(call))):
        yield "forward_slice"
    if name in _FITS and isinstance(call.func, ast.Attribute):
        yield "fit_in_feature_code"
    whole = len(call.args) > 0 and isinstance(call.args[0], ast.Name) and "axis" not in keywords
    if name in _WHOLE_STATISTICS and whole and _is_numpy(call.func):
        yield "whole_sample_statistic"


def _puts_later_first(assignment: ast.Assign) -> bool:
    """`early[:-k] = values[k:]`: an array written from its begin with one read from further on."""
    begins = any(
        isinstance(target, ast.Subscript)
        and isinstance(target.slice, ast.Slice)
        and target.slice.lower is None
        and target.slice.upper is not None
        for target in assignment.targets
    )
    return begins and _is_later_stretch(assignment.value)


def _forward_reads(loop: ast.For, place: str) -> Iterator[ast.stmt]:
    """Statements of the loop that write `array[place]` and read `other[place + something ahead]`."""
    for statement in ast.walk(loop):
        if not isinstance(statement, ast.Assign | ast.AugAssign):
            continue
        targets: Sequence[ast.expr] = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        writes = any(isinstance(target, ast.Subscript) and _is_name(target.slice, place) for target in targets)
        if writes and any(_is_ahead(node, place) for node in ast.walk(statement.value)):
            yield statement


def _is_ahead(node: ast.AST, place: str) -> bool:
    if not (
        isinstance(node, ast.Subscript) and isinstance(node.slice, ast.BinOp) and isinstance(node.slice.op, ast.Add)
    ):
        return False
    sides = (node.slice.left, node.slice.right)
    return any(_is_name(side, place) for side in sides) and any(_is_distance(side) for side in sides)


def _is_distance(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int) and value.value > 0
    return isinstance(value, ast.Name) and value.id in _DISTANCES


def _is_later_stretch(value: ast.expr) -> bool:
    """`values[k:]`, from some place after the first to the end."""
    return (
        isinstance(value, ast.Subscript)
        and isinstance(value.slice, ast.Slice)
        and value.slice.upper is None
        and value.slice.step is None
        and value.slice.lower is not None
        and not _is_negative(value.slice.lower)
    )


def _is_reversed(value: ast.expr) -> bool:
    """Whether the expression, or what its method is called on, is turned round."""
    for node in ast.walk(value):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            whole = node.slice.lower is None and node.slice.upper is None
            if whole and node.slice.step is not None and _is_negative(node.slice.step):
                return True
        if isinstance(node, ast.Call) and _name(node.func) in {"reverse", "flip", "flipud"}:
            return True
    return False


def _joined(call: ast.Call) -> Sequence[ast.expr]:
    """What comes before something else in `append(first, last)` or `concatenate([first, ..., last])`."""
    parts = call.args[0].elts if call.args and isinstance(call.args[0], ast.List | ast.Tuple) else call.args
    return parts[:-1]


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_name(value: ast.expr, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name


def _is_numpy(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id in _NUMPY


def _is_negative(value: ast.expr) -> bool:
    return isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub)


def _is_word(value: ast.expr, words: set[str]) -> bool:
    return isinstance(value, ast.Constant) and value.value in words
