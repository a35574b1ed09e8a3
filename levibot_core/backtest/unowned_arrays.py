"""Arrays whose references a compiled function does not count: with a call per bar, that would take most of its time."""

from typing import Any

from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array


def _disown(_typing: Any, array: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        view = make_array(array)(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        view.meminfo = cgutils.get_null_value(view.meminfo.type)  # type: ignore[no-untyped-call]
        return view._getvalue()

    return array(array), build


unowned: Any = intrinsic(_disown)
"""The same array, whose references are not counted; whoever calls has to keep it alive."""
