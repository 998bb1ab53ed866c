"""A few steps for each op, to be run on every back end (``test_everywhere.py``): the same values must come back.

``SNIPPETS[op]`` is the YAML of some steps, without ``steps:``; the op is used in the last of them, and the names of the
steps of all snippets are different, since all of them run in one Graph: begin them with the op's name. Sources without
files (``arange``, ``random``, ``to_frame`` of an array) keep a snippet short; files lie in ``data/`` (``${data}``), or
are made by the test (``${made}``: ``x.npy``, ``x.zarr``, ``shop.db``, …); ``${site}`` is a web site. Functions stand in
``tests/everywhere_functions.py`` and are called as ``everywhere_functions:name``.
"""

from __future__ import annotations

SNIPPETS: dict[str, str] = {}

SNIPPETS["mean"] = """
  mean_x: {op: arange, start: 0, stop: 24, chunks: 5, dim: x, dtype: float64}
  mean: {op: mean, input: mean_x}
"""

# -- sources

SNIPPETS["files"] = """
  files_found: {op: files, path: "${data}/nyc/*.csv"}
  files: {call: "everywhere_functions:n_lines", over: {path: files_found}}
"""
SNIPPETS["from_netcdf"] = """
  from_netcdf: {op: from_netcdf, path: "${data}/climate/A1B_*.nc", variable: air_temperature, chunks: {time: 25}}
"""
SNIPPETS["from_zarr"] = """
  from_zarr: {op: from_zarr, path: "${made}/x.zarr", chunks: {row: 3}}
"""
SNIPPETS["read_parquet"] = """
  read_parquet: {op: read_parquet, path: "${data}/tpch/orders", columns: [o_orderkey, o_orderdate]}
"""
SNIPPETS["read_feather"] = """
  read_feather: {op: read_feather, path: "${made}/*.feather"}
"""
SNIPPETS["read_orc"] = """
  read_orc: {op: read_orc, path: "${made}/x.orc"}
"""
SNIPPETS["read_sql"] = """
  read_sql: {op: read_sql, uri: "sqlite:${made}/shop.db", table: sales, partition_by: id, npartitions: 3}
"""
SNIPPETS["read_delta"] = """
  read_delta: {op: read_delta, path: "${made}/events"}
"""
SNIPPETS["read_iceberg"] = """
  read_iceberg: {op: read_iceberg, path: "${made}/trips"}
"""
SNIPPETS["read_csv"] = """
  read_csv: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, cast: {time_hour: "timestamp[UTC]"}}
"""
SNIPPETS["read_excel"] = """
  read_excel: {op: read_excel, path: "${made}/book.xlsx", sheet: "*", source_sheet: month}
"""
SNIPPETS["from_npy"] = """
  from_npy: {op: from_npy, path: "${made}/x.npy", dims: [row, column], chunks: {row: 3}}
"""
SNIPPETS["read_json"] = """
  read_json: {op: read_json, path: "${made}/rows.jsonl", blocksize: 100}
"""
SNIPPETS["from_call"] = """
  from_call_g: {op: from_call, function: "everywhere_functions:some_rows", columns: {k: int64}, partitions: 3}
  from_call_rows: {op: sort_values, input: from_call_g, by: k}
  from_call:
    op: from_call
    function: "everywhere_functions:places"
    shape: {x: 7, y: 3}
    chunks: {x: 3, y: 2}
    dtype: float64
    args: {factor: 100}
"""
SNIPPETS["timeseries"] = """
  timeseries: {op: timeseries, start: "2001-01-01", end: "2001-01-04", freq: 1h, partitions: 3}
"""
SNIPPETS["random"] = """
  random: {op: random, shape: {row: 9, column: 4}, chunks: {row: 4, column: 3}, distribution: uniform, high: 3}
"""
SNIPPETS["zeros"] = """
  zeros: {op: zeros, shape: {x: 7, y: 4}, chunks: {x: 3}, dtype: int32}
"""
SNIPPETS["ones"] = """
  ones: {op: ones, shape: {x: 7, y: 4}, chunks: {x: 3}}
"""
SNIPPETS["arange"] = """
  arange: {op: arange, start: 3, stop: 40, step: 2, chunks: 7, dim: x, dtype: float32}
"""

# -- arrays

for _op, _more in {
    "sum": "axis: y",
    "min": "axis: [x, y]",
    "max": "keepdims: true, axis: x",
    "std": "ddof: 1, axis: x",
    "var": "ddof: 0",
    "any": "axis: y",
    "all": "axis: x",
    "quantile": "q: [0.1, 0.5], axis: x",
    "rechunk": "chunks: {x: 3, y: -1}",
    "svd": "",
}.items():
    SNIPPETS[_op] = f"""
  {_op}_x: {{op: random, shape: {{x: 11, y: 4}}, chunks: {{x: 4, y: 4}}}}
  {_op}: {{op: {_op}, input: {_op}_x, {_more}}}
"""
for _op, _more in {
    "median": "axis: x",
    "histogram": "bins: 5, range: [-2, 2], axis: x",
    "cumsum": "axis: x",
    "argmax": "axis: x",
    "argmin": "axis: y",
    "topk": "k: 3, axis: x",
    "transpose": "dims: [y, x]",
    "reshape": "dims: {cell: -1}",
    "pad": "pad_width: {x: [2, 1], y: [0, 3]}, mode: reflect",
    "roll": "shift: {x: 3, y: -1}",
    "coarsen": "window: {x: 3, y: 2}, agg: mean, boundary: trim",
}.items():
    SNIPPETS[_op] = f"""
  {_op}_x: {{op: random, shape: {{x: 23, y: 4}}, chunks: {{x: 2, y: 3}}}}
  {_op}: {{op: {_op}, input: {_op}_x, {_more}}}
"""
SNIPPETS["stack"] = """
  stack_x: {op: random, matrix: {copy: [a, b]}, shape: {x: 7, y: 4}, chunks: {x: 3, y: 3}}
  stack: {op: stack, input: "stack_x[*]", dim: copy}
"""
SNIPPETS["concatenate"] = """
  concatenate_x: {op: random, shape: {x: 7, y: 4}, chunks: {x: 3, y: 3}}
  concatenate_z: {op: ones, shape: {y: 4, x: 2}, chunks: {y: 2}, dtype: int8}
  concatenate: {op: concatenate, input: [concatenate_x, concatenate_z], axis: x}
"""
SNIPPETS["average"] = """
  average_x: {op: random, shape: {x: 11, y: 4}, chunks: {x: 4, y: 3}}
  average_w: {op: random, shape: {y: 4}, chunks: {y: 3}, distribution: uniform}
  average: {op: average, input: average_x, weights: average_w, axis: y}
"""
SNIPPETS["sel"] = """
  sel_x: {op: from_netcdf, path: "${data}/climate/E1_*.nc", variable: air_temperature, chunks: {time: 25}}
  sel: {op: sel, input: sel_x, labels: {time: ["2050", "2070"], latitude: 34}, method: nearest}
"""
SNIPPETS["take"] = """
  take_x: {op: from_netcdf, path: "${data}/climate/E1_*.nc", variable: air_temperature, chunks: {time: 25}}
  take_by_year: {op: groupby, input: take_x, by: "year(time)", agg: mean}
  take: {op: take, input: take_by_year, at: {year: "year(time)"}, like: take_x}
"""
SNIPPETS["align"] = """
  align_x: {op: random, shape: {y: 6, z: 2}, chunks: {y: 4, z: 2}}
  align_noisy: {op: set_labels, input: align_x, labels: {y: [5.0000001, 4, 3, 2, 1, 0]}}
  align_like: {op: set_labels, input: align_x, labels: {y: [0, 1, 2, 3, 4, 5]}}
  align: {op: align, input: align_noisy, like: align_like, tolerance: {y: 0.001}}
"""
SNIPPETS["set_labels"] = """
  set_labels_x: {op: from_netcdf, path: "${data}/climate/E1_*.nc", variable: air_temperature, chunks: {time: 25}}
  set_labels: {op: set_labels, input: set_labels_x, by: {latitude: "round(latitude, 1)"}, drop: [longitude]}
"""
SNIPPETS["groupby"] = """
  groupby_x: {op: from_netcdf, path: "${data}/climate/E1_*.nc", variable: air_temperature, chunks: {time: 25}}
  groupby_of_array: {op: groupby, input: groupby_x, by: "year(time) % 3", agg: std, ddof: 0}
  groupby_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  groupby_whole: {op: groupby, input: groupby_f, by: [origin, day], agg: {w: "quantile(temp, 0.9)", l: list(hour)}}
  groupby: {op: groupby, input: groupby_f, by: {o: lower(origin), day: day},
            agg: {t: "std(temp, 1) / count()", m: mode(temp), c: "corr(temp, hour)"}}
"""
SNIPPETS["pivot"] = """
  pivot_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  pivot: {op: pivot, input: pivot_f, index: day, columns: origin, names: [EWR, JFK, LGA], agg: mean(temp), rest: drop}
"""
SNIPPETS["dummies"] = """
  dummies_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  dummies: {op: dummies, input: dummies_f, column: origin, names: [EWR, JFK]}
"""
SNIPPETS["cut"] = """
  cut_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  cut: {op: cut, input: cut_f, column: temp, bins: [0, 32, 60, 110], into: warmth}
"""
SNIPPETS["describe"] = """
  describe_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 90000}
  describe: {op: describe, input: describe_f, columns: [origin, temp, hour]}
"""
SNIPPETS["resample"] = """
  resample_x: {op: from_netcdf, path: "${data}/climate/E1_*.nc", variable: air_temperature, chunks: {time: 25}}
  resample_of_array: {op: resample, input: resample_x, rule: {time: 5YS}, agg: max}
  resample_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, cast: {time_hour: "timestamp[UTC]"}}
  resample: {op: resample, input: resample_f, on: time_hour, rule: D, by: origin, agg: {t: mean(temp), n: count()}}
"""
SNIPPETS["rolling"] = """
  rolling_x: {op: random, shape: {x: 23, y: 2}, chunks: {x: 5, y: 2}}
  rolling_of_array: {op: rolling, input: rolling_x, window: {x: 3}, agg: mean, center: true, min_periods: 1}
  rolling_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, cast: {time_hour: "timestamp[UTC]"}}
  rolling: {op: rolling, input: rolling_f, on: time_hour, window: 7, by: origin, center: true, columns: {t: max(temp)}}
"""
SNIPPETS["map_blocks"] = """
  map_blocks_x: {op: random, shape: {x: 11, y: 4}, chunks: {x: 4, y: 4}}
  map_blocks: {op: map_blocks, input: map_blocks_x, function: "everywhere_functions:norms", dims: [x], dtype: float64}
"""

# -- frames

SNIPPETS["select"] = """
  select_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  select: {op: select, input: select_f, columns: [hour, origin]}
"""
SNIPPETS["filter"] = """
  filter_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  filter: {op: filter, input: filter_f, where: "temp > 60 and origin in ['JFK'] or missing(precip)"}
"""
SNIPPETS["assign"] = """
  assign_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, cast: {time_hour: "timestamp[UTC]"}}
  assign: {op: assign, input: assign_f, columns: {c: "temp / 1.8", noon: "hour(time_hour) == 12", o: lower(origin)}}
  assign_times:
    op: assign
    input: assign_f
    columns:
      day: "floor_time(convert(time_hour, 'America/Sao_Paulo'), 'day')"
      later: "time_hour + duration(months=1)"
      shown: "strftime(time_hour, '%d.%m.%Y %H:%M')"
      read: "parse_time(shown, ['%d.%m.%Y %H:%M'])"
"""
SNIPPETS["merge"] = """
  merge_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, columns: [origin, day, hour, temp]}
  merge_a: {op: read_csv, path: "${data}/nyc/airports.csv"}
  merge_semi: {op: merge, left: merge_f, right: merge_a, how: semi, left_on: origin, right_on: faa}
  merge_anti: {op: merge, left: merge_a, right: merge_f, how: anti, left_on: faa, right_on: origin}
  merge_left: {op: merge, left: merge_f, right: merge_a, how: left, left_on: origin, right_on: faa}
  merge_right: {op: merge, left: merge_f, right: merge_a, how: right, left_on: origin, right_on: faa, where: temp > lat}
  merge_t: {op: filter, input: merge_f, where: "day < 3"}
  merge_u: {op: filter, input: merge_f, where: "hour < 12"}
  merge_two: {op: merge, left: merge_t, right: [merge_u, merge_t], how: outer, on: [origin, day, hour]}
  merge_cross: {op: merge, left: merge_t, right: merge_a, how: cross, where: "temp > lat and lat < 41"}
  merge_o: {op: read_parquet, path: "${data}/tpch/orders"}
  merge: {op: merge, left: merge_o, right: merge_o, on: o_orderkey, where: o_custkey_x > 30, validate: one_to_one}
"""
SNIPPETS["merge_asof"] = """
  merge_asof_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, columns: [origin, day, hour, temp]}
  merge_asof_g: {op: filter, input: merge_asof_f, where: "hour % 5 == 0"}
  merge_asof: {op: merge_asof, left: merge_asof_f, right: merge_asof_g, on: hour, by: [origin, day], direction: nearest}
"""
SNIPPETS["concat"] = """
  concat_f: {op: read_parquet, path: "${data}/tpch/orders"}
  concat_g: {op: filter, input: concat_f, where: "o_orderkey < 100"}
  concat: {op: concat, input: [concat_f, concat_g]}
"""
SNIPPETS["sort_values"] = """
  sort_values_f: {op: read_parquet, path: "${data}/tpch/orders"}
  sort_values: {op: sort_values, input: sort_values_f, by: [o_orderdate, o_custkey], ascending: [false, true]}
"""
SNIPPETS["window"] = """
  window_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, columns: [origin, day, hour, temp]}
  window: {op: window, input: window_f, by: origin, order: [day, hour], columns: {s: cumsum(temp), r: dense_rank(),
    d: "temp - lag(temp)", share: temp / sum(temp)}}
"""
SNIPPETS["head"] = """
  head_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  head: {op: head, input: head_f, n: 300}
"""
SNIPPETS["sample"] = """
  sample_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  sample_n: {op: sample, input: sample_f, n: 40}
  sample: {op: sample, input: sample_f, fraction: 0.1}
"""
SNIPPETS["nlargest"] = """
  nlargest_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  nlargest: {op: nlargest, input: nlargest_f, n: 3, columns: temp, by: origin}
"""
SNIPPETS["nsmallest"] = """
  nsmallest_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  nsmallest: {op: nsmallest, input: nsmallest_f, n: 5, columns: [temp, hour]}
"""
SNIPPETS["drop_duplicates"] = """
  drop_duplicates_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  drop_duplicates: {op: drop_duplicates, input: drop_duplicates_f, subset: [origin, hour]}
"""
SNIPPETS["rename"] = """
  rename_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  rename: {op: rename, input: rename_f, columns: {temp: precip, precip: temp, origin: airport}}
"""
SNIPPETS["astype"] = """
  astype_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  astype: {op: astype, input: astype_f, columns: {hour: float32, day: string, time_hour: "timestamp[America/New_York]"}}
"""
SNIPPETS["fillna"] = """
  fillna_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  fillna: {op: fillna, input: fillna_f, value: {temp: -1, time_hour: unknown}}
"""
SNIPPETS["dropna"] = """
  dropna_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  dropna: {op: dropna, input: dropna_f, subset: [temp, precip], how: all}
"""
SNIPPETS["value_counts"] = """
  value_counts_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  value_counts: {op: value_counts, input: value_counts_f, columns: [origin, precip]}
"""
SNIPPETS["set_index"] = """
  set_index_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  set_index: {op: set_index, input: set_index_f, keys: [origin, day]}
"""
SNIPPETS["repartition"] = """
  repartition_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000, columns: [hour, temp]}
  repartition_fewer: {op: repartition, input: repartition_f, npartitions: 2}
  repartition: {op: repartition, input: repartition_f, npartitions: 5, count_rows: true}
"""
SNIPPETS["sql"] = """
  sql_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  sql_g: {op: read_csv, path: "${data}/nyc/airports.csv"}
  sql_rows: {op: sql, inputs: {w: sql_f}, query: "select origin, day, temp * 2 as twice from w where temp > 40"}
  sql:
    op: sql
    inputs: {w: sql_rows, p: sql_g}
    query: "select p.name, day, sum(twice) as s from w join p on w.origin = p.faa group by all order by all"
"""
SNIPPETS["explode"] = """
  explode_nested: {call: "everywhere_functions:nested"}
  explode_f: {op: to_frame, input: explode_nested, columns: {k: int64, tags: "list[string]"}}
  explode: {op: explode, input: explode_f, columns: tags, position: at}
"""
SNIPPETS["unnest"] = """
  unnest_v: {call: "everywhere_functions:nested"}
  unnest_f: {op: to_frame, input: unnest_v, columns: {k: int64, at: "struct[x: float64, y: struct[z: string]]"}}
  unnest: {op: unnest, input: unnest_f, deep: true}
"""
SNIPPETS["melt"] = """
  melt_f: {op: read_csv, path: "${data}/nyc/airports.csv"}
  melt_c: {op: concat, input: [melt_f, melt_t], columns: union}
  melt_t: {op: select, input: melt_f, columns: {faa: faa, twice: "lat * 2"}}
  melt: {op: melt, input: melt_c, id: faa, columns: [lat, lon, twice]}
"""
SNIPPETS["map_partitions"] = """
  map_partitions_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  map_partitions_pandas: {call: "everywhere_functions:described", input: map_partitions_f}
  map_partitions_arrow: {call: "everywhere_functions:described", input: map_partitions_f, frames: arrow}
  map_partitions_polars: {call: "everywhere_functions:described", input: map_partitions_f, frames: polars}
  map_partitions_temp: {op: select, input: map_partitions_f, columns: [temp]}
  map_partitions_same:
    op: map_partitions
    matrix: {form: [arrow, polars]}
    input: map_partitions_temp
    function: "everywhere_functions:as_given"
    columns: {temp: float64}
    frames: "${form}"
  map_partitions_days: {op: set_index, input: map_partitions_f, keys: [origin, day]}
  map_partitions:
    op: map_partitions
    input: map_partitions_days
    function: "everywhere_functions:largest"
    args: {column: temp, by: [origin, day]}
    columns: {origin: string, day: int64, temp: float64}
"""

# -- conversions

SNIPPETS["to_array"] = """
  to_array_f: {op: read_csv, path: "${data}/nyc/weather.csv", blocksize: 9000}
  to_array_of_frame: {op: to_array, input: to_array_f, columns: [temp, hour], dims: [row, feature]}
  to_array_items: {call: "everywhere_functions:powers", over: {x: [1, 2, 3]}}
  to_array_of_items: {op: to_array, input: to_array_items, along: x, dims: [n], shape: [4], dtype: float64, chunks: 2}
  to_array_value: {call: "everywhere_functions:powers", args: {x: 3}}
  to_array: {op: to_array, input: to_array_value, dims: [power], shape: [4], dtype: float64}
"""
SNIPPETS["to_frame"] = """
  to_frame_x: {op: random, matrix: {copy: [a, b]}, shape: {row: 7, col: 3}, chunks: {row: 3, col: 2}}
  to_frame_cells: {op: to_frame, input: "to_frame_x[a]"}
  to_frame_wide: {op: to_frame, input: "to_frame_x[b]", columns: col, prefix: c}
  to_frame_means: {op: mean, input: to_frame_x}
  to_frame_gathered: {op: to_frame, input: "to_frame_means[*]", columns: {mean: float64}}
  to_frame_items: {call: "everywhere_functions:power_maps", over: {x: [1, 2, 3]}}
  to_frame: {op: to_frame, input: to_frame_items, columns: {square: int64, name: string}}
"""
SNIPPETS["to_items"] = """
  to_items_x: {op: random, shape: {row: 7, col: 3}, chunks: {row: 3, col: 2}}
  to_items_of_array: {op: to_items, input: to_items_x, along: col}
  to_items_f: {op: read_parquet, path: "${data}/tpch/orders"}
  to_items_few: {op: nlargest, input: to_items_f, n: 4, columns: o_orderkey}
  to_items_of_frame: {op: to_items, input: to_items_few, by: rows}
  to_items_value: {call: "everywhere_functions:powers", args: {x: 2}}
  to_items: {op: to_items, input: to_items_value, split: 2}
"""

# -- algebra

for _op, _more in {"matmul": "axis: y", "tensordot": "axis: [y]"}.items():
    SNIPPETS[_op] = f"""
  {_op}_left: {{op: random, shape: {{x: 11, y: 9}}, chunks: {{x: 4, y: 2}}}}
  {_op}_right: {{op: random, shape: {{y: 9, z: 4}}, chunks: {{y: 3, z: 2}}}}
  {_op}: {{op: {_op}, left: {_op}_left, right: {_op}_right, {_more}}}
"""
SNIPPETS["einsum"] = """
  einsum_x: {op: random, shape: {row: 30, a: 4}, chunks: {row: 7, a: 3}}
  einsum_w: {op: random, shape: {row: 30}, chunks: {row: 10}}
  einsum: {op: einsum, input: [einsum_x, einsum_w, einsum_x], subscripts: "row a, row, row b -> a b"}
"""
SNIPPETS["qr"] = """
  qr_x: {op: random, shape: {x: 40, y: 4}, chunks: {x: 4, y: 2}}
  qr: {op: qr, input: qr_x}
"""
SNIPPETS["svd_compressed"] = """
  svd_compressed_wide: {op: random, shape: {row: 40, feature: 8}, chunks: {row: 9, feature: 8}}
  svd_compressed_table: {op: to_frame, input: svd_compressed_wide, columns: feature, prefix: f}
  svd_compressed_some: {op: filter, input: svd_compressed_table, where: "f0 > -1"}
  svd_compressed_x:
    {op: to_array, input: svd_compressed_some, columns: "f*", dims: [row, feature], labels: f1, dtype: float32}
  svd_compressed: {op: svd_compressed, input: svd_compressed_x, k: 3, axis: [row, feature], n_power_iter: 1}
"""
SNIPPETS["solve"] = """
  solve_noise: {op: random, shape: {a: 6, b: 6}, chunks: {a: 2, b: 3}}
  solve_right: {op: random, shape: {a: 6, t: 5}, chunks: {a: 4, t: 2}}
  solve: {op: solve, left: solve_noise, right: solve_right}
"""
SNIPPETS["fft"] = """
  fft_x: {op: random, shape: {time: 20, y: 4}, chunks: {time: 6, y: 2}}
  fft: {op: fft, input: fft_x, axis: time, n: 24}
"""
SNIPPETS["map_overlap"] = """
  map_overlap_x: {op: random, shape: {time: 20, y: 5}, chunks: {time: 6, y: 2}}
  map_overlap: {op: map_overlap, input: map_overlap_x, function: "everywhere_functions:smoothed", args: {n: 2},
                depth: {time: 2, y: 1}, boundary: reflect, dtype: float64}
"""

# -- learning

SNIPPETS["train"] = """
  train_x: {op: random, shape: {row: 60, col: 3}, chunks: {row: 20, col: 3}}
  train_cells: {op: to_frame, input: train_x, columns: col, prefix: c}
  train_rows: {op: assign, input: train_cells, columns: {high: "c0 + c1 > 0"}}
  train_y: {expr: "train_x[col=0] * 2 + train_x[col=2]"}
  train_forest: {op: train, input: train_rows, target: high, features: [c0, c1, c2], folds: 2,
                 estimator: sklearn.ensemble.RandomForestClassifier, args: {n_estimators: 6, max_depth: 2}}
  train_passes: {op: train, input: train_x, y: train_y, folds: 3, partial: true, grid: {alpha: [0.1, 0.001]},
                 estimator: sklearn.linear_model.SGDRegressor}
  train: {op: train, input: train_x, y: train_y, folds: 3, shuffle: true, grid: {alpha: [1, 10]},
          estimator: sklearn.linear_model.Ridge, scoring: [r2, neg_max_error]}
"""
SNIPPETS["predict"] = """
  predict_x: {op: random, shape: {row: 60, col: 3}, chunks: {row: 20, col: 3}}
  predict_cells: {op: to_frame, input: predict_x, columns: col, prefix: c}
  predict_rows: {op: assign, input: predict_cells, columns: {high: "c0 + c1 > 0"}}
  predict_bayes: {op: train, input: predict_rows, target: high, features: [c0, c1], folds: 0,
                  estimator: sklearn.naive_bayes.GaussianNB}
  predict_of_frame: {op: predict, input: predict_rows, model: predict_bayes.model, columns: {guess: bool}}
  predict_pca: {op: train, input: predict_x, folds: 0, estimator: sklearn.decomposition.PCA, args: {n_components: 2}}
  predict: {op: predict, input: predict_x, model: predict_pca.model, method: transform, shape: {component: 2}}
"""

SNIPPETS["tree_reduce"] = """
  tree_reduce_items: {call: "everywhere_functions:powers", over: {x: {range: 20}}}
  tree_reduce: {op: tree_reduce, input: tree_reduce_items, function: "everywhere_functions:added", fan_in: 3}
"""

# -- what other programs have

SNIPPETS["lookup"] = """
  lookup_airports: {op: read_csv, path: "${data}/nyc/airports.csv"}
  lookup: {op: lookup, input: lookup_airports, csv: "${data}/nyc/weather.csv", key: origin, field: faa, missing: empty}
"""
SNIPPETS["crawl"] = """
  crawl_links: {op: crawl, url: "${site}", depth: 1, split: 2, rate: 10000/s}
  crawl: {op: select, input: crawl_links, columns: [url, result, status, depth]}
"""
