"""Words of SQL, pandas and numpy, and what to write here instead."""

from __future__ import annotations

import math
import re

__all__ = ["FOREIGN_CONSTANTS", "FOREIGN_FUNCTIONS", "FOREIGN_IN_WINDOWS", "syntax_hint"]

_NOW = "${…} of a param: a run is the same tomorrow"
_PARTS_OF_TIMES = "year(t), quarter(t), month(t), day(t), hour(t) …"
# names of functions in other languages -> what to write here
FOREIGN_FUNCTIONS = {
    **dict.fromkeys(("isnan", "isnull", "isna", "is_null"), "missing(x)"),
    **dict.fromkeys(("notnull", "notna", "not_null"), "not missing(x)"),
    **dict.fromkeys(("fillna", "coalesce", "ifnull", "nvl", "fill_null", "fill_nan"), "fill(x, v)"),
    "nullif": "where(a == v, missing, a)",
    **dict.fromkeys(("if", "iif", "ifelse", "if_else", "case", "when", "decode", "np_where"), "where(c, a, b)"),
    **dict.fromkeys(("pow", "power"), "x ** y"),
    **dict.fromkeys(("isin", "is_in"), "x in [1, 2]"),
    **dict.fromkeys(("ln",), "log(x)"),
    **dict.fromkeys(("len", "strlen", "char_length", "character_length"), "length(s)"),
    **dict.fromkeys(("str", "to_char", "varchar", "to_string"), "text(x); of times strftime(t, '%d.%m.%Y')"),
    **dict.fromkeys(("int", "bigint", "trunc", "to_int"), "integer(x)"),
    **dict.fromkeys(("float", "double", "to_number", "to_numeric"), "number(x)"),
    **dict.fromkeys(("bool",), "boolean(x)"),
    **dict.fromkeys(
        ("cast", "try_cast", "astype"), "number(x), integer(x), text(x) or boolean(x), or a step of op astype"
    ),
    **dict.fromkeys(("datetime", "make_date", "make_timestamp"), "timestamp('…')"),
    **dict.fromkeys(
        ("to_datetime", "strptime", "to_date", "to_timestamp", "str_to_date"), "parse_time(s, ['%d.%m.%Y'])"
    ),
    **dict.fromkeys(("timedelta", "interval", "to_timedelta"), "duration('5min'), or duration(months=3)"),
    **dict.fromkeys(
        ("dateadd", "date_add", "add_months", "dateoffset"), "t + duration(months=3), or t + duration('1d')"
    ),
    **dict.fromkeys(("datediff", "date_diff", "months_between"), "(a - b) / duration('1d')"),
    **dict.fromkeys(("date_trunc", "time_bucket", "trunc_date", "floor_date", "to_period"), "floor_time(t, 'month')"),
    **dict.fromkeys(("extract_year", "date_part", "datepart"), _PARTS_OF_TIMES),
    **dict.fromkeys(("week", "weekofyear", "isocalendar"), "isoweek(t)"),
    **dict.fromkeys(("dayofweek", "day_of_week", "isodow", "dow"), "weekday(t), where Monday is 0"),
    **dict.fromkeys(("day_of_year", "yday", "doy"), "dayofyear(t)"),
    **dict.fromkeys(("date_format", "format_date", "formatdatetime"), "strftime(t, '%d.%m.%Y')"),
    **dict.fromkeys(("tz_localize", "at_time_zone", "timezone"), "localize(t, 'Europe/Paris')"),
    **dict.fromkeys(("tz_convert", "convert_timezone", "convert_tz"), "convert(t, 'Europe/Paris')"),
    **dict.fromkeys(("now", "today", "current_date", "current_timestamp", "getdate"), _NOW),
    **dict.fromkeys(("mod",), "x % y"),
    **dict.fromkeys(("least", "min2", "fmin"), "minimum(a, b)"),
    **dict.fromkeys(("greatest", "max2", "fmax"), "maximum(a, b)"),
    **dict.fromkeys(("ceiling",), "ceil(x)"),
    **dict.fromkeys(
        ("like", "ilike", "rlike", "regexp", "regexp_like", "similar"),
        "contains(s, 'x'), startswith(s, 'x') or match(s, 'x.*y')",
    ),
    **dict.fromkeys(("between",), "a <= x <= b"),
    **dict.fromkeys(("substring", "substr", "mid"), "slice(s, 0, 3), which counts from 0"),
    **dict.fromkeys(("left",), "slice(s, 0, n)"),
    **dict.fromkeys(("right",), "slice(s, -n)"),
    **dict.fromkeys(("regexp_matches", "regexp_match"), "match(s, 'x.*y')"),
    **dict.fromkeys(("trim", "btrim", "ltrim", "rtrim", "lstrip", "rstrip"), "strip(s)"),
    **dict.fromkeys(("regexp_extract", "regexp_substr"), "extract(s, 'x(.*)')"),
    **dict.fromkeys(("regexp_replace", "translate"), "replace(s, 'old', 'new'), of plain text"),
    **dict.fromkeys(("split_part",), "split(s, ',', 0), which counts from 0"),
    **dict.fromkeys(("ucase", "toupper"), "upper(s)"),
    **dict.fromkeys(("lcase", "tolower"), "lower(s)"),
    **dict.fromkeys(("concat_ws", "str_cat", "paste"), "concat(a, ' ', b)"),
    **dict.fromkeys(("avg", "average"), "mean(x)"),
    **dict.fromkeys(("stdev", "stddev", "stddev_samp"), "std(x, 1)"),
    **dict.fromkeys(("stddev_pop",), "std(x, 0)"),
    **dict.fromkeys(("variance", "var_samp"), "var(x, 1)"),
    **dict.fromkeys(("var_pop",), "var(x, 0)"),
    **dict.fromkeys(("percentile", "percentile_cont", "quantile_cont"), "quantile(x, 0.9)"),
    **dict.fromkeys(("count_distinct", "approx_count_distinct", "n_unique", "n_distinct"), "nunique(x)"),
    **dict.fromkeys(("size",), "count()"),
    **dict.fromkeys(("array_agg", "collect_list", "implode"), "list(x)"),
    **dict.fromkeys(("string_agg", "group_concat", "listagg"), "join(x, ', ')"),
    **dict.fromkeys(("distinct", "unique"), "nunique(x) in agg, or a step of op drop_duplicates"),
    **dict.fromkeys(("diff", "lag", "lead", "shift", "row_number", "rank", "cumsum"), "a step of its own: op window"),
    "pct_change": "x / lag(x) - 1 in a step of op window",
    "percent_rank": "(rank() - 1) / (count() - 1) in a step of op window",
    "ntile": "row_number() and count() in a step of op window",
    **dict.fromkeys(("log2", "ld"), "log(x) / log(2)"),
    "exists": "a step of op merge with how: semi",
    **{
        name: f"a step of op {op}"
        for op, names in {
            "concat": ("union", "union_all"),
            "merge": ("merge",),
            "pivot": ("pivot", "pivot_table"),
            "explode": ("explode", "unnest"),
            "sort_values": ("sort", "sort_values", "order_by"),
            "drop_duplicates": ("drop_duplicates",),
            "groupby": ("groupby", "group_by"),
            **{op: (op,) for op in ("describe", "melt", "sample", "head")},
        }.items()
        for name in names
    },
}
# the same in columns of op window
FOREIGN_IN_WINDOWS = {"shift": "lag(x), or lead(x)", "diff": "x - lag(x)", "pct_change": "x / lag(x) - 1"}
# words of SQL between values -> the same here; in lower case some are ours
FOREIGN_OPERATORS = {"and": "and", "or": "or", "not": "not", "in": "in", "xor": "!="}
PARTS_OF_TIMES = frozenset(
    {"year", "quarter", "month", "week", "day", "hour", "minute", "second", "dow", "doy", "isodow", "isoweek", "epoch"}
)
# names of constants in other languages -> a hint
FOREIGN_CONSTANTS = {
    **dict.fromkeys(("true", "false"), "write True or False"),
    "nan": "for a missing value of floats write nan",
    **dict.fromkeys(
        ("na", "nat", "null", "nil", "none"), "for a missing value write missing, to ask for it missing(x)"
    ),
    **dict.fromkeys(("inf", "infinity"), "for an infinite value write not isfinite(x) and not missing(x)"),
    "pi": f"write {math.pi}",
    **dict.fromkeys(("current_date", "current_timestamp"), f"write {_NOW}"),
}
_SYNTAX = (
    (r"\bover\s*\(", "'over'; write a step of op window, which has by and order"),
    (
        r"\b(?:try_)?cast\s*\(.*\bas\b",
        "'cast'; write number(x), integer(x), text(x), or a step of op astype",
    ),
    (r"\bextract\s*\(\s*[\w']+\s+from\b", f"'extract … from'; write {_PARTS_OF_TIMES}"),
    (r"\bilike\b", "'ilike'; write contains(lower(s), 'x'), startswith(lower(s), 'x') or match(s, '(?i)x.*y')"),
    (r"\blike\b", "'like'; write contains(s, 'x'), startswith(s, 'x'), endswith(s, 'x') or match(s, 'x.*y')"),
    (r"\bbetween\b", "'between'; write a <= x <= b"),
    (r"\bcase\b|\bwhen\b", "'case'; write where(c, a, b)"),
    (r"\binterval\b", "'interval'; write duration('5min'), or duration(months=3)"),
    (r"\bis\s+not\s+(null|na|none|missing)\b", "'is not'; write not missing(x)"),
    (r"\bis\b", "'is'; to ask for missing values write missing(x)"),
    (r"\bdistinct\b", "'distinct'; write nunique(x) in agg, or a step of op drop_duplicates"),
    (r"\bcount\s*\(\s*\*\s*\)", "'count(*)'; write count()"),
    (r"\bunion\b", "'union'; write a step of op concat"),
    (r"\bselect\b", "'select'; an expression gives one column, {op: select, …} is a step"),
    (r"<>", "'<>'; write !="),
    (r"\|\|", "'||'; to join text write concat(a, b)"),
    (r"::", "'::'; write number(x), integer(x), text(x), or a step of op astype"),
)


def syntax_hint(text: str) -> str:
    """Return what a text that can't be read has of another language, and what to write instead; empty if nothing."""
    plain = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "''", text)
    return next((f"got {hint}" for pattern, hint in _SYNTAX if re.search(pattern, plain, re.IGNORECASE)), "")
