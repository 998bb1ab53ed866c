"""The statements of groupby and resample.

`std`, `var`, `corr` and `covar` carry counts, means and squared deviations, and merge them as Chan, Golub and LeVeque
do, since sums of squares lose all digits where the mean is large; a mean is kept as a value near it and what is added
to that one.

A table of states has the columns ``k0``, ``k1``, … of the keys and ``s0``, ``s1``, … of the states. Where the values
themselves are counted (`nunique`, `mode`), it has more rows: those of ``tag`` ``i + 1`` hold the different values of
the plan's value ``distinct[i]`` in ``w{i}`` and how often each occurs in ``n``.

References
----------
Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.ops.elementwise.sql_types import literal
from pipeline.ops.frames.aggregation_plan import DISTINCT, Aggregate, Plan, State, Value, states_of
from pipeline.ops.frames.columns import sql_of

__all__ = ["aggregated", "combined", "finished", "value_sql"]


def value_sql(value: Value, schema: pa.Schema, slots: Sequence[Any]) -> str:
    sql = sql_of(value.expression, schema, slots).sql
    if value.form == "double":
        sql = f"({sql})::double"
    elif value.form == "ticks":
        sql = _ticks(f"({sql})", value.type)
    elif pa.types.is_floating(value.type):
        kind = "double" if value.type.bit_width == 64 else "float"
        sql = f"(({sql})::{kind} + 0::{kind})"  # -0.0 is 0.0
    elif pa.types.is_boolean(value.type) and value.form == "number":
        sql = f"({sql})::utinyint"
    if value.beside is not None:
        sql = f"case when ({sql_of(value.beside, schema, slots).sql}) is not null then {sql} end"
    return sql


def _ticks(sql: str, kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return f"epoch({sql})::bigint" if kind.unit == "s" else f"epoch_{kind.unit}({sql})"
    return f"({sql} - date '1970-01-01')::bigint" if pa.types.is_date(kind) else sql


def _grouped(plan: Plan, items: Sequence[str], source: str, *, where: str = "", further: str = "") -> str:
    """``select keys, items from source group by keys``; without keys one row, even of nothing."""
    keys = [*plan.names, *([further] if further else [])]
    group = f" group by {', '.join(keys)}" if keys else ""
    return f"select {', '.join([*keys, *items])} from {source}{where and f' where {where}'}{group}"


def _joined(plan: Plan, left: str, right: str) -> str:
    return " and ".join(f"{left}.{k} is not distinct from {right}.{k}" for k in plan.names) or "true"


def _centred(plan: Plan) -> list[int]:
    """The values of which the statement needs one near their mean."""
    return sorted({i for _, state in plan.needed if state.kind == "centre" for i in state.values})


def _with_tags(plan: Plan, states: str, distinct: Callable[[int, int], str]) -> str:
    if not plan.distinct:
        return states
    parts = [f"select 0::tinyint as tag, * from ({states})"]
    parts += [f"select {i + 1}::tinyint as tag, * from ({distinct(i, v)})" for i, v in plan.counted]
    return " union all by name ".join(parts)


def aggregated(plan: Plan, source: str, *, counted: str = "") -> str:
    """The states of the rows of a source: columns k0, …, v0, …, rowno.

    Parameters
    ----------
    counted : a further column of this name has how many rows each group has
    """
    steps, rows = [f"s as ({source})"], "s"
    if centred := _centred(plan):
        steps.append(f"m as ({_grouped(plan, [f'avg(v{i}) as c{i}' for i in centred], 's')})")
        centres = ", ".join(f"m.c{i}" for i in centred)
        steps.append(f"z as (select s.*, {centres} from s join m on {_joined(plan, 's', 'm')})")
        rows = "z"
    items = [f"{_PARTIAL[state.kind](*_of_rows(state))} as {name}" for name, state in plan.needed]
    items += [f"count(*) as {counted}"] if counted else []
    states = _grouped(plan, items or ["count(*) as s"], rows)
    return f"with {', '.join(steps)} " + _with_tags(
        plan,
        states,
        lambda i, v: _grouped(
            plan, ["count(*)::bigint as n"], f"(select *, v{v} as w{i} from s)", where=f"w{i} is not null",
            further=f"w{i}",
        ),
    )  # fmt: skip


def _of_rows(state: State) -> list[Any]:
    names = [f"v{i}" for i in state.values]
    return [*names, *(f"c{i}" for i in state.values)] if state.kind in _MOMENTS else [*names, *_given(state.argument)]


def _given(argument: Any) -> list[Any]:
    return [] if argument is None else [argument]


def combined(plan: Plan) -> str:
    steps = [f"p as (select * from t{' where tag = 0' if plan.distinct else ''})"]
    rows = "p"
    if centred := _centred(plan):
        bases = [f"arg_min({plan.state('centre', (i,))}, rowno) as c{i}" for i in centred]
        steps.append(f"b as ({_grouped(plan, bases, 'p')})")
        offsets = [
            f"b.c{i}, (p.{plan.state('centre', (i,))} - b.c{i}) + p.{plan.state('shift', (i,))} as h{i}"
            for i in centred
        ]
        steps.append(f"y as (select p.*, {', '.join(offsets)} from p join b on {_joined(plan, 'p', 'b')})")
        rows = "y"
    items = []
    for name, state in plan.needed:
        sql = _merged_moment(plan, state, name) if state.kind in _MOMENTS else _COMBINE[state.kind](name)
        items.append(f"{sql} as {name}")
    states = _grouped(plan, items or ["count(*) as s"], rows)
    return f"with {', '.join(steps)} " + _with_tags(
        plan,
        states,
        lambda i, _: _grouped(
            plan, ["sum(n)::bigint as n"], "t", where=f"tag = {i + 1}", further=f"w{i}"
        ),
    )  # fmt: skip


def _merged_moment(plan: Plan, state: State, own: str) -> str:
    first = state.values[0]
    n, h = plan.state("count", (first,)), [f"h{i}" for i in state.values]
    mean = f"sum({n} * {h[0]}) / nullif(sum({n}), 0)"
    if state.kind == "centre":
        return f"any_value(c{first})"
    if state.kind == "shift":
        return mean
    last = h[-1]
    other = f"sum({n} * {last}) / nullif(sum({n}), 0)"
    return f"sum({own}) + sum({n} * {h[0]} * {last}) - sum({n}) * ({mean}) * ({other})"


def finished(plan: Plan, *, several: bool, ordered: bool = True) -> str:
    """The keys, then the aggregates, of a table of states.

    Parameters
    ----------
    several : whether a group may have several states
    ordered : whether the rows are put into the order of the keys
    """
    keys = plan.names
    steps = [f"u as ({combined(plan)})"] if several else []
    source = "u" if several else "t"
    steps.append(f"p as (select * from {source}{' where tag = 0' if plan.distinct else ''})")
    base = "p"
    if plan.gaps:
        *others, period = keys
        group = f" group by {', '.join(others)}" if others else ""
        ends = ", ".join([*others, f"unnest(range(min({period}), max({period}) + 1)) as {period}"])
        steps.append(f"g as (select {ends} from p{group})")
        states = "".join(f", p.{name}" for name, _ in plan.needed)
        steps.append(f"f as (select g.*{states} from g left join p on {_joined(plan, 'g', 'p')})")
        base = "f"
    joins = ""
    for i, _ in plan.counted:
        items = ["count(*) as u", f"first(w{i} order by n desc, w{i}) as o"]
        steps.append(f"d{i} as ({_grouped(plan, items, source, where=f'tag = {i + 1}')})")
        joins += f" left join d{i} on {_joined(plan, base, f'd{i}')}"
    selected = [f"{base}.{k} as {k}" for k in keys]
    selected += [f"{_result(plan, a)} as a{j}" for j, a in enumerate(plan.aggregates)]
    order = f" order by {', '.join(f'{k} nulls last' for k in keys)}" if keys and ordered else ""
    return f"with {', '.join(steps)} select {', '.join(selected)} from {base}{joins}{order}"


def _result(plan: Plan, a: Aggregate) -> str:
    if a.function in DISTINCT:
        joined = f"d{plan.distinct.index(a.values[0])}"
        return f"coalesce({joined}.u, 0)" if a.function == "nunique" else f"{joined}.o"
    states = [plan.state(state.kind, state.values, state.argument) for state in states_of(a)]
    sql = _FINISH.get(a.function, _itself)(a, *states)
    return f"nullif({sql}, 'nan'::{_float(a.type)})" if pa.types.is_floating(a.type) else sql


def _float(kind: pa.DataType) -> str:
    return "double" if kind.bit_width == 64 else "float"


# ---------------------------------------------------------------------------------------------------------------------
# States
# ---------------------------------------------------------------------------------------------------------------------

_MOMENTS = frozenset({"centre", "shift", "spread", "cross"})


def _quantile(v: str, argument: tuple[float, bool]) -> str:
    q, ticks = argument
    if not ticks:
        return f"quantile_cont({v}, {q!r}::double)"
    place = f"((count({v}) - 1) * {q!r}::double)"
    values = f"list({v} order by {v}) filter ({v} is not null)"
    low = f"({values})[floor({place})::bigint + 1]"
    high = f"({values})[ceil({place})::bigint + 1]"
    return f"({low} + round_even(({high} - {low}) * ({place} - floor({place})), 0)::bigint)"


def _product(x: str, y: str, cx: str, cy: str) -> str:
    return f"sum(({x} - {cx}) * ({y} - {cy})) - count({x}) * avg({x} - {cx}) * avg({y} - {cy})"


_PARTIAL: Mapping[str, Callable[..., str]] = {
    "sum": lambda v: f"sum({v})",
    "count": lambda v="*": f"count({v})::bigint",
    "min": lambda v: f"min({v})",
    "max": lambda v: f"max({v})",
    "any": lambda v: f"bool_or({v})",
    "all": lambda v: f"bool_and({v})",
    "first": lambda v: f"arg_min({v}, rowno)",
    "last": lambda v: f"arg_max({v}, rowno)",
    "centre": lambda v, c: f"any_value({c})",
    "shift": lambda v, c: f"avg({v} - {c})",
    "spread": lambda v, c: _product(v, v, c, c),
    "cross": _product,
    "quantile": _quantile,
    "list": lambda v: f"list({v} order by rowno) filter ({v} is not null)",
    "join": lambda v, sep: f"string_agg({v}, {literal(sep).sql} order by rowno)",
}
_COMBINE: Mapping[str, Callable[[str], str]] = {
    "sum": lambda s: f"sum({s})",
    "count": lambda s: f"sum({s})::bigint",
    "min": lambda s: f"min({s})",
    "max": lambda s: f"max({s})",
    "any": lambda s: f"bool_or({s})",
    "all": lambda s: f"bool_and({s})",
    "first": lambda s: f"arg_min({s}, rowno)",
    "last": lambda s: f"arg_max({s}, rowno)",
}


def _itself(a: Aggregate, state: str) -> str:
    return state


def _sum(a: Aggregate, state: str) -> str:
    zero = "0::double" if pa.types.is_floating(a.type) else "0"
    return f"coalesce({state}, {zero})"


def _mean(a: Aggregate, total: str, n: str) -> str:
    """Of decimals the digits are divided: 0.30 / 3 is 0.1, the double nearest to 0.30 divided by 3 is not."""
    scale = a.argument or 0
    if pa.types.is_duration(a.type):
        quotient = f"{total}::hugeint // {n}"
    elif scale:
        quotient = f"replace({total}::varchar, '.', '')::hugeint::double / ({n} * 1e{scale})"
    else:
        quotient = f"{total}::double / {n}"
    return f"(case when {n} > 0 then {quotient} end)"


def _variance(a: Aggregate, n: str, centre: str, shift: str, spread: str) -> str:
    return f"(case when {n} > {a.argument} then greatest({spread}, 0) / ({n} - {a.argument}) end)"


def _deviation(a: Aggregate, *states: str) -> str:
    return f"sqrt({_variance(a, *states)})"


def _covariance(a: Aggregate, n: str, _: str, cx: str, cy: str, dx: str, dy: str, cross: str) -> str:
    return f"(case when {n} > {a.argument} then {cross} / ({n} - {a.argument}) end)"


def _correlation(a: Aggregate, *states: str) -> str:
    *_, x, y, cross = states
    return f"(case when {x} > 0 and {y} > 0 then greatest(-1, least(1, {cross} / sqrt({x}) / sqrt({y}))) end)"


def _median(a: Aggregate, state: str) -> str:
    return f"(date '1970-01-01' + {state}::integer)" if pa.types.is_date(a.type) else state


_FINISH: Mapping[str, Callable[..., str]] = {
    "sum": _sum,
    "mean": _mean,
    "count": lambda a, state: f"coalesce({state}, 0)",
    "any": lambda a, state: f"coalesce({state}, false)",
    "all": lambda a, state: f"coalesce({state}, true)",
    "var": _variance,
    "std": _deviation,
    "covar": _covariance,
    "corr": _correlation,
    "list": lambda a, state: f"coalesce({state}, [])",
    "median": _median,
    "quantile": _median,
}
