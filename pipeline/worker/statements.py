"""What a statement of a user may be, and whether it can be run on parts of its table, by DuckDB's own parse of it.

What is not known to be harmless is refused: so a new kind of clause, table or expression is, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import DataError

__all__ = ["Found", "Reading", "parsed"]

_TABLES = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "EXPRESSION_LIST", "PIVOT", "TABLE_FUNCTION"})
_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_MODIFIERS = frozenset({"ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"})
_ORDERS = frozenset({"ORDER_DEFAULT", "ASCENDING", "DESCENDING", "ORDER_ASCENDING", "ORDER_DESCENDING"})
_EXPRESSIONS = frozenset(
    {
        *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"),
        *("LAMBDA", "LAMBDA_REF", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW"),
    }
)
_TABLE_FUNCTIONS = frozenset({"generate_series", "range", "unnest"})
_REFUSED = re.compile(
    r"(pg_|has_|inet_|current_|get_current_|duckdb_|pragma_|sqlite_|uuid|json_execute|json_serialize).*|ago|col_description|"
    r"currval|gen_random_uuid|get_block_size|getenv|getvariable|in_search_path|localtime|localtimestamp|nextval|now|"
    r"obj_description|query|query_table|random|session_user|setseed|setval|shobj_description|sleep_ms|stats|today|"
    r"transaction_timestamp|txid_current|user|vector_type|version|write_log"
)
_HIDDEN = frozenset(
    {
        *("current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp"),
        *("current_user", "localtime", "localtimestamp", "rowid", "session_user", "user"),
    }
)
"""Names that are functions, or numbers of rows, where no column has them."""

_PLAIN_MACROS = frozenset(
    {
        *("array_append", "array_prepend", "array_reverse", "array_to_string", "date_add", "days_in_month", "if"),
        *("list_append", "list_prepend", "list_reverse", "nullif", "split_part"),
    }
)

# ---------------------------------------------------------------------------------------------------------------------
# What a statement may be
# ---------------------------------------------------------------------------------------------------------------------


def parsed(connection: Any, query: str, schemas: Mapping[str, pa.Schema]) -> Any:
    """Return the tree of a statement that may be run.

    Raises
    ------
    DataError : with what is refused, and why
    """
    ((text,),) = connection.execute("select json_serialize_sql($1)", [query]).fetchall()
    tree = json.loads(text)
    if tree["error"]:
        if tree["error_type"] == "not implemented":
            raise DataError(f"the query must be a SELECT ({tree['error_message'].rstrip('!')})")
        raise DataError(f"the query has an error: {tree['error_message']}")
    if len(tree["statements"]) != 1:
        raise DataError(f"the query has {len(tree['statements'])} statements; write one SELECT")
    statement = tree["statements"][0]
    if statement.get("named_param_map"):
        raise DataError("the query has parameters ($x or ?); write ${x} for a param of the file")
    columns = {name.casefold() for schema in schemas.values() for name in schema.names}
    _check(statement["node"], frozenset(name.casefold() for name in schemas), columns, schemas)
    return statement["node"]


def _check(node: Any, tables: frozenset[str], columns: set[str], schemas: Mapping[str, pa.Schema]) -> None:
    """Refuse what is not known to be harmless, at any depth; ``tables`` are the names that mean one of ours here."""
    if isinstance(node, list):
        for one in node:
            _check(one, tables, columns, schemas)
        return
    if not isinstance(node, dict):
        return
    kind, group = node.get("type"), node.get("class")
    if group is not None:
        _check_expression(node, group, columns)
    elif isinstance(kind, str):
        if kind not in _TABLES | _NODES | _MODIFIERS | _ORDERS:
            raise DataError(f"the query must only read its inputs; {_words(kind)} is refused")
        if kind == "BASE_TABLE":
            _check_table(node, tables, schemas)
        if kind == "TABLE_FUNCTION" and node["function"].get("function_name", "").lower() not in _TABLE_FUNCTIONS:
            name = node["function"].get("function_name", "")
            raise DataError(f"the query must only read its inputs; {name}() is refused")
    if node.get("at_clause") is not None:
        raise DataError("the query must only read its inputs; AT is refused")
    if node.get("sample") is not None:
        raise DataError("a sample differs from run to run; use op sample")
    for entry in (node.get("cte_map") or {}).get("map", ()):
        name, value = entry["key"].casefold(), entry["value"]
        if name.startswith(("pg_", "duckdb_", "sqlite_", "pragma_")):
            raise DataError(f"{entry['key']!r} is a name of the engine; choose another one")
        inner = value.get("query_node") or value.get("query", {}).get("node") or {}
        own = {name} if inner.get("type") == "RECURSIVE_CTE_NODE" else set()
        _check(value, tables | own, columns, schemas)
        tables = tables | {name}
    if kind in ("RECURSIVE_CTE_NODE", "CTE_NODE") and node.get("cte_name"):
        tables = tables | {str(node["cte_name"]).casefold()}
    for key, inner in node.items():
        if key != "cte_map":
            _check(inner, tables, columns, schemas)


def _check_table(node: Any, tables: frozenset[str], schemas: Mapping[str, pa.Schema]) -> None:
    path = node.get("qualified_name", {}).get("path") or [node["table_name"]]
    name = ".".join(path)
    if len(path) != 1 or path[0].casefold() not in tables:
        raise DataError(f"the query reads {name!r}, which is no input; inputs: {', '.join(schemas)}")


def _check_expression(node: Any, group: str, columns: set[str]) -> None:
    if group not in _EXPRESSIONS:
        raise DataError(f"the query has {_words(group)}, which is refused")
    if group == "COLUMN_REF":
        name = node["column_names"][-1].casefold()
        if name in _HIDDEN and name not in columns:
            raise DataError(f"{name} is not the same in every run or partition; write a param: ${{today}}")
    if group in ("FUNCTION", "WINDOW"):
        name = node.get("function_name", "").lower()
        path = node.get("qualified_name", {}).get("path") or [name]
        one_argument = name == "age" and len(node.get("arguments") or node.get("children") or ()) < 2
        if len(path) > 1 or node.get("schema") or node.get("catalog"):
            raise DataError(f"{'.'.join(path)} is refused; write the name of the function alone")
        if _REFUSED.fullmatch(name) or one_argument:
            raise DataError(f"{name}() tells of the machine or differs from run to run, and is refused")


def _words(kind: str) -> str:
    return kind.replace("_", " ").lower().removesuffix(" node")


# ---------------------------------------------------------------------------------------------------------------------
# Whether it can be run on parts of its table
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    ordered: bool
    used: frozenset[str]
    whole: str


class Reading:
    """Reads what the parse of a statement shows of its rows."""

    def __init__(self, connection: Any, schemas: Mapping[str, pa.Schema]) -> None:
        rows = connection.execute("select lower(function_name), function_type from duckdb_functions()").fetchall()
        kinds: dict[str, set[str]] = {}
        for name, kind in rows:
            kinds.setdefault(name, set()).add(kind)
        self._plain = {name for name, kind in kinds.items() if kind <= {"scalar"}} | _PLAIN_MACROS
        self._names = {name.casefold(): name for name in schemas}

    def of(self, node: Any) -> Found:
        """Return it for the node of the whole statement."""
        tables = [one["table_name"].casefold() for one in _within(node) if one.get("type") == "BASE_TABLE"]
        used = frozenset(self._names[name] for name in tables if name in self._names)
        ordered = any(one["type"] == "ORDER_MODIFIER" for one in node.get("modifiers", ()))
        return Found(ordered, used, self._why_whole(node, tables))

    def _why_whole(self, node: Any, tables: list[str]) -> str:
        """Return what needs all rows at once; empty if nothing does."""
        if node["type"] != "SELECT_NODE" or node["cte_map"]["map"] or node["from_table"]["type"] != "BASE_TABLE":
            return "reads more than one table, or a subquery"
        if len(tables) != 1:
            return "has a subquery"
        for modifier in node["modifiers"]:
            return _words(modifier["type"]).removesuffix(" modifier")
        if node["group_expressions"] or node["group_sets"] or node["having"] or node["qualify"]:
            return "groups rows"
        for one in _within(node):
            group = one.get("class")
            if group in ("SUBQUERY", "WINDOW"):
                return f"has a {group.lower()}"
            if group == "OPERATOR" and one.get("type") == "GROUPING_FUNCTION":
                return "groups rows"
            if group == "FUNCTION" and not one.get("is_operator"):
                name = one["function_name"].lower()
                if name not in self._plain:
                    return f"has {name}()"
        return ""


def _within(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every map in a tree."""
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from _within(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _within(inner)
