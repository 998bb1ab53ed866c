"""``sql``: a statement of yours over frames."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pipeline.config.signatures.frames import FrameOp

__all__ = ["Sql"]


class Sql(FrameOp):
    """The rows of one SELECT over frames, for those who have it already: the SQL of DuckDB, names as they are written.

    It sees the tables of ``inputs`` and nothing else: no file, setting or extension, nor functions whose value differs
    from run to run (``random``, ``now``). A query of single rows of one table runs partition by partition; all others
    get all rows in one task, which ``check`` says. Times with a zone become UTC. Errors: no SELECT, an unknown table or
    column, types that no frame has.
    """

    op: ClassVar[str] = "sql"
    inputs: ClassVar = {"inputs": ("frame{}",)}
    home: ClassVar[str] = "frames.sql_query:sql"

    query: str = Field(description="one SELECT", min_length=1)
