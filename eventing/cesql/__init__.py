"""CloudEvents SQL 1.0: expressions over the attributes of an event, as a Trigger's filters have them.

`lexer` and `parser` read the text, `syntax` is the tree between, `compiler` makes closures of it, with the casts of
`values`, the patterns of `like` and the `functions`. `checks` asks what only a filter must keep.
"""

from __future__ import annotations

from eventing.cesql.expression import CesqlFilter, Evaluation, Expression, compile_cesql, compile_expression
from eventing.cesql.values import ErrorKind, Failure

__all__ = ["CesqlFilter", "ErrorKind", "Evaluation", "Expression", "Failure", "compile_cesql", "compile_expression"]
