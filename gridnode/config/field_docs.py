"""The docstrings under the fields of a class, which Python itself does not keep."""

from __future__ import annotations

import ast
import inspect
import textwrap


def field_docs(record: type) -> dict[str, str]:
    """Return the docstring under each field of `record` that has one; none without its source."""
    try:
        source = inspect.getsource(record)
    except OSError:  # compiled files alone
        return {}
    (tree,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for statement, after in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(after, ast.Expr):
            continue
        if isinstance(statement.target, ast.Name) and isinstance(after.value, ast.Constant):
            found[statement.target.id] = " ".join(str(after.value.value).split())
    return found
