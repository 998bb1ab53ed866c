"""TPC-H 1 as one would write it without Pipeline, in one thread: what the steps are compared with."""

import pandas as pd
import pyarrow.parquet as pq

NUMBERS = ["l_quantity", "l_extendedprice", "l_discount", "l_tax"]
GROUPS = ["l_returnflag", "l_linestatus"]


def q1(root: str, answers: str) -> dict[str, pd.DataFrame]:
    lines = pq.read_table(f"{root}/lineitem", columns=[*NUMBERS, *GROUPS, "l_shipdate"]).to_pandas()
    lines = lines[pd.to_datetime(lines["l_shipdate"]) <= pd.Timestamp("1998-09-02")]
    lines = lines.astype(dict.fromkeys(NUMBERS, "float64"))
    price = lines["l_extendedprice"] * (1 - lines["l_discount"])
    lines = lines.assign(disc_price=price, charge=price * (1 + lines["l_tax"]))
    summary = lines.groupby(GROUPS, as_index=False).agg(
        sum_qty=("l_quantity", "sum"),
        sum_base_price=("l_extendedprice", "sum"),
        sum_disc_price=("disc_price", "sum"),
        sum_charge=("charge", "sum"),
        avg_qty=("l_quantity", "mean"),
        avg_price=("l_extendedprice", "mean"),
        avg_disc=("l_discount", "mean"),
        count_order=("l_quantity", "count"),
    )
    return {"q1": summary.sort_values(GROUPS, ignore_index=True)}
