"""Makes everything in this folder: small files with the shapes of real ones, and answers known by construction.

    python data/make.py

The answers are computed here in plain Python, row by row, without the product and without dataframes.
"""

from __future__ import annotations

import csv
import datetime as dt
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

HERE = Path(__file__).parent
SCENARIOS = {"A1B": 3.0, "E1": 1.5}  # kelvin of warming


def climate() -> None:
    """Yearly temperature, 60 years, with a step of known height between the first 40 and the last 10 years."""
    (HERE / "climate").mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    latitude, longitude = np.linspace(15, 75, 7), np.linspace(225, 315, 9)
    pattern = 285 + 10 * rng.standard_normal((7, 9))
    wave = np.tile([0.5, -0.5], 30)  # sums to zero over both spans
    for scenario, warming in SCENARIOS.items():
        rise = np.concatenate([np.zeros(40), np.linspace(0, warming, 10), np.full(10, warming)])
        field = (pattern + (wave + rise)[:, None, None]).astype("float32")
        time = np.array([f"{year}-06-01" for year in range(2040, 2100)], dtype="datetime64[ns]")
        array = xr.DataArray(
            field,
            dims=("time", "latitude", "longitude"),
            coords={"time": time, "latitude": latitude, "longitude": longitude},
            attrs={"units": "K", "standard_name": "air_temperature"},
        )
        path = HERE / "climate" / f"{scenario}_north_america.nc"
        array.to_dataset(name="air_temperature").to_netcdf(path, engine="h5netcdf")


def monthly() -> None:
    """Daily temperature and rain of five years: four that are all alike, and one that differs by known amounts.

    Every month has its own mean; what the days add to it sums to zero in each month. One cell is sea: it has no values.
    """
    (HERE / "monthly").mkdir(exist_ok=True)
    rng = np.random.default_rng(4)
    time = np.arange("1991-01-01", "1996-01-01", dtype="datetime64[D]")
    months = (time.astype("datetime64[M]").astype(int) - 252) % 12  # 252 months from 1970 to 1991
    latitude, longitude = np.linspace(40, 55, 4), np.linspace(0, 20, 5)
    for variable, units, level, change, july in (("t2m", "K", 280.0, 1.0, 3.0), ("tp", "mm", 60.0, -2.0, -30.0)):
        cycle = level + level / 20 * np.sin(np.arange(12) * np.pi / 6) + rng.standard_normal(12)
        pattern = rng.standard_normal((4, 5))
        days = rng.standard_normal(len(time))
        for first in np.unique(time.astype("datetime64[M]")):
            here = time.astype("datetime64[M]") == first
            days[here] -= days[here].mean()
        last = time >= np.datetime64("1995-01-01")
        differs = np.where(last, np.where(months == 6, july, change), 0.0)
        field = ((cycle[months] + days + differs)[:, None, None] + pattern).astype("float32")
        field[:, 0, 0] = np.nan
        array = xr.DataArray(
            field,
            dims=("time", "latitude", "longitude"),
            coords={"time": time.astype("datetime64[ns]"), "latitude": latitude, "longitude": longitude},
            attrs={"units": units},
        )
        encoding = {variable: {"zlib": True, "complevel": 9, "shuffle": True}}
        path = HERE / "monthly" / f"{variable}.nc"
        array.to_dataset(name=variable).to_netcdf(path, engine="h5netcdf", encoding=encoding)


def images() -> None:
    """Three nights of eight images each: a sky that is the same in all, noise, and spots at known places.

    A place has a spot in few of them, so that their median is the sky.
    """
    folder = HERE / "images"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(6)
    y, x = np.mgrid[0:48, 0:64]
    sky = 200 + y + 2 * np.abs(x - 20)
    places = [(row, column) for row in range(6, 44, 9) for column in range(6, 60, 10)]
    rows: Rows = []
    for night in range(3):
        stack = sky + rng.integers(-3, 4, (8, 48, 64))
        for number in range(8):
            key = 8 * night + number
            chosen = [places[(3 * key + i) % len(places)] for i in range(1 + key % 4)]
            for row, column in chosen:
                stack[number] += np.round(600 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)).astype(int)
            mean = [sum(place[i] for place in chosen) / len(chosen) for i in (0, 1)]
            rows.append({"key": str(key), "n": len(chosen), "y": mean[0], "x": mean[1]})
        np.save(folder / f"night{night + 1}.npy", stack.astype("uint16"))
    with open(folder / "expected.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def nyc() -> None:
    """Hourly weather at three airports, some of it missing, and a fourth airport without any."""
    (HERE / "nyc").mkdir(exist_ok=True)
    rng = random.Random(2)
    sums: dict[str, list[float]] = defaultdict(list)
    with open(HERE / "nyc" / "weather.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["origin", "year", "month", "day", "hour", "temp", "precip", "time_hour"])
        for origin in ("EWR", "JFK", "LGA", "XXX"):
            for hour in range(200):
                at = dt.datetime(2013, 1, 1) + dt.timedelta(hours=hour)
                temp = "NA" if hour % 17 == 0 else round(rng.uniform(20, 90), 2)
                writer.writerow([origin, at.year, at.month, at.day, at.hour, temp, 0, f"{at.isoformat()}Z"])
                if temp != "NA":
                    sums[origin].append(float(temp))
    with open(HERE / "nyc" / "airports.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["faa", "name", "lat", "lon"])
        writer.writerows([["EWR", "Newark", 40.69, -74.17], ["JFK", "Kennedy", 40.64, -73.78]])
        writer.writerows([["LGA", "La Guardia, New York", 40.78, -73.87], ["ORD", "O'Hare", 41.98, -87.9]])
    with open(HERE / "nyc" / "expected.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["origin", "temp"])
        writer.writerows([origin, sum(sums[origin]) / len(sums[origin])] for origin in ("EWR", "JFK", "LGA"))


PEOPLE = ("Ada", "Boris", "Clara", "Dora", "Emil", "Frida", "Goran", "Hanna", "Igor", "Jana")
WORDS = ("rain", "sun", "wind", "garden", "train", "tea", "music", "book", "river", "quiet", "jazz", "Monday", "old")


def letters() -> None:
    """Two thousand letters of a few words each, in a folder a year, and who wrote how many of them."""
    rng = random.Random(6)
    sent: dict[str, list[tuple[str, float | None, int]]] = defaultdict(list)
    for number in range(2000):
        sender = rng.choice(PEOPLE[: 2 + number % 9])
        receiver = rng.choice([name for name in PEOPLE if name != sender])
        day = dt.date(1905, 1, 1) + dt.timedelta(days=rng.randrange(5 * 365))
        degrees = None if rng.random() < 0.1 else round(rng.uniform(-9, 30), 1)
        words = rng.choices(WORDS, k=rng.randint(2, 9))
        sent[sender].append((receiver, degrees, len(words)))
        head = [f"from: {sender}", f"to: {receiver}", f"date: {day}"]
        head += [f"degrees: {degrees}"] if degrees is not None else []
        folder = HERE / "letters" / str(day.year)
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join([*head, "", " ".join(words), ""])
        (folder / f"{number:04}.txt").write_text(text, encoding="utf-8")
    with open(HERE / "letters" / "expected.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sender", "letters", "receivers", "degrees", "words"])
        for sender, its in sorted(sent.items()):
            known = [degrees for _, degrees, _ in its if degrees is not None]
            row = [len(its), len({receiver for receiver, _, _ in its}), sum(known) / len(known)]
            writer.writerow([sender, *row, sum(words for _, _, words in its)])


Rows = list[dict[str, Any]]


def rides() -> None:
    """Fifty rides, whose minutes are a known polynomial of their km and noise, and points for a sweep."""
    (HERE / "rides").mkdir(exist_ok=True)
    rng = random.Random(15)
    with open(HERE / "rides" / "rides.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["km", "minutes"])
        for _ in range(50):
            km = round(rng.uniform(0.5, 6), 2)
            writer.writerow([km, round(3 + 4 * km - 0.3 * km**2 + rng.gauss(0, 0.1), 3)])
    with open(HERE / "rides" / "points.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["alpha", "degree"], [0, 2], [1, 1], [10, 3]])


def tpch() -> None:
    """Six tables with the columns and types of TPC-H that the four queries use, and their answers."""
    tables = tpch_tables(random.Random(3))
    schemas = {
        "region": {"r_regionkey": pa.int64(), "r_name": pa.string()},
        "nation": {"n_nationkey": pa.int64(), "n_name": pa.string(), "n_regionkey": pa.int64()},
        "supplier": {"s_suppkey": pa.int64(), "s_nationkey": pa.int64()},
        "customer": {"c_custkey": pa.int64(), "c_nationkey": pa.int64(), "c_mktsegment": pa.string()},
        "orders": {
            "o_orderkey": pa.int64(),
            "o_custkey": pa.int64(),
            "o_orderdate": pa.date32(),
            "o_shippriority": pa.int32(),
        },
        "lineitem": {
            "l_orderkey": pa.int64(),
            "l_suppkey": pa.int64(),
            "l_quantity": pa.decimal128(15, 2),
            "l_extendedprice": pa.decimal128(15, 2),
            "l_discount": pa.decimal128(15, 2),
            "l_tax": pa.decimal128(15, 2),
            "l_returnflag": pa.string(),
            "l_linestatus": pa.string(),
            "l_shipdate": pa.date32(),
        },
    }
    for name, schema in schemas.items():
        folder = HERE / "tpch" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = tables[name]
        n_files = 3 if name in ("lineitem", "orders") else 1
        for i in range(n_files):
            part = rows[i * len(rows) // n_files : (i + 1) * len(rows) // n_files]
            pq.write_table(pa.Table.from_pylist(part, pa.schema(list(schema.items()))), folder / f"{name}.{i}.parquet")
    answers = HERE / "tpch" / "answers"
    answers.mkdir(exist_ok=True)
    rows = q1(tables)
    with open(answers / "q01.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="|")
        writer.writeheader()
        writer.writerows(rows)


def tpch_tables(rng: random.Random) -> dict[str, Rows]:
    """Made-up rows."""
    regions = ["AFRICA", "AMERICA", "ASIA"]
    nations = [("KENYA", 0), ("PERU", 1), ("CHINA", 2), ("INDIA", 2), ("JAPAN", 2)]
    orders: Rows = []
    lines: Rows = []
    first = dt.date(1992, 1, 1)
    for order in range(1, 401):
        day = first + dt.timedelta(days=rng.randrange(2500))
        orders.append({"o_orderkey": order, "o_custkey": rng.randint(1, 60), "o_orderdate": day, "o_shippriority": 0})
        for _ in range(rng.randint(1, 4)):
            shipped = day + dt.timedelta(days=rng.randint(1, 120))
            old = shipped < dt.date(1995, 6, 17)
            lines.append(
                {
                    "l_orderkey": order,
                    "l_suppkey": rng.randint(1, 15),
                    "l_quantity": Decimal(rng.randint(1, 50)),
                    "l_extendedprice": Decimal(rng.randint(100, 9_999_999)) / 100,
                    "l_discount": Decimal(rng.randint(0, 10)) / 100,
                    "l_tax": Decimal(rng.randint(0, 8)) / 100,
                    "l_returnflag": rng.choice("AR") if old else "N",
                    "l_linestatus": "F" if old else "O",
                    "l_shipdate": shipped,
                }
            )
    return {
        "region": [{"r_regionkey": i, "r_name": name} for i, name in enumerate(regions)],
        "nation": [{"n_nationkey": i, "n_name": n, "n_regionkey": r} for i, (n, r) in enumerate(nations)],
        "supplier": [{"s_suppkey": i, "s_nationkey": rng.randrange(5)} for i in range(1, 16)],
        "customer": [
            {"c_custkey": i, "c_nationkey": rng.randrange(5), "c_mktsegment": rng.choice(["BUILDING", "MACHINERY"])}
            for i in range(1, 61)
        ],
        "orders": orders,
        "lineitem": lines,
    }


def q1(tables: dict[str, Rows]) -> Rows:
    """TPC-H 1."""
    groups: dict[tuple[str, str], Rows] = defaultdict(list)
    for line in tables["lineitem"]:
        if line["l_shipdate"] <= dt.date(1998, 9, 2):
            groups[line["l_returnflag"], line["l_linestatus"]].append(line)
    answer = []
    for (flag, status), lines in sorted(groups.items()):
        discounted = [x["l_extendedprice"] * (1 - x["l_discount"]) for x in lines]
        answer.append(
            {
                "l_returnflag": flag,
                "l_linestatus": status,
                "sum_qty": sum(x["l_quantity"] for x in lines),
                "sum_base_price": sum(x["l_extendedprice"] for x in lines),
                "sum_disc_price": sum(discounted),
                "sum_charge": sum(d * (1 + x["l_tax"]) for d, x in zip(discounted, lines, strict=True)),
                "avg_qty": sum(x["l_quantity"] for x in lines) / len(lines),
                "avg_price": sum(x["l_extendedprice"] for x in lines) / len(lines),
                "avg_disc": sum(x["l_discount"] for x in lines) / len(lines),
                "count_order": len(lines),
            }
        )
    return answer


def pets() -> None:
    """People, and the pets of some of them; the number of pets of each kind, and their mean age."""
    folder = HERE / "pets"
    folder.mkdir(exist_ok=True)
    rng = random.Random(8)
    names = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hedy", "Ines", "Jon"]
    people = [{"id": 100 + i, "name": f"{rng.choice(names)} {chr(65 + i % 26)}."} for i in range(160)]
    owned: dict[str, list[int]] = defaultdict(list)
    rows: Rows = []
    for person in people:
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            kind, age = rng.choice(["cat", "dog", "fish", "parrot"]), rng.randrange(15)
            rows.append(
                {"owner": person["id"], "name": rng.choice(["Rex", "Mia", "Luna", "Bo"]), "kind": kind, "age": age}
            )
            owned[kind].append(age)
    expected = [{"kind": k, "n": len(v), "age": round(sum(v) / len(v), 12)} for k, v in sorted(owned.items())]
    for name, found in (("people", people), ("pets", rows), ("expected", expected)):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    climate()
    monthly()
    images()
    rides()
    letters()
    nyc()
    pets()
    tpch()
