"""The options of the formats of outputs; those that a file leaves out are left to the library that writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.sections.fields import Count, Section, key
from pipeline.config.sections.formats import FORMATS

__all__ = ["OPTIONS"]


_Character = Annotated[str, Field(pattern=r'^[^"\r\n]$')]
_ChunkSizes = Annotated[dict[str, Count], Field(min_length=1)]


class _NoOptions(Section):
    pass


class _Parquet(Section):
    compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = "zstd"
    compression_level: int = Field(0, ge=-7, le=22)
    row_group_size: Count = 1


class _Zarr(Section):
    chunks: _ChunkSizes = key("", {}, takes="a map: {dim: size}")
    level: int = Field(0, ge=-7, le=22)


class _NetCDF(_Zarr):
    level: int = Field(0, ge=0, le=9)


class _CSV(Section):
    sep: _Character = key("", ",", takes="one character")
    na_rep: str = ""
    float_format: str = key("", "", takes="a number's format: '%.3f'", pattern=r"^%[-+ #0]*\d*(\.\d+)?[eEfFgG]$")
    date_format: str = key("", "", takes="a time's format: '%Y-%m-%d'")
    decimal: _Character = key("", ".", takes="one character")
    quoting: int = Field(0, ge=0, le=2)


class _JSON(Section):
    lines: bool = False
    indent: int = Field(0, ge=0, le=16)
    keys: bool = True


class _Pickle(Section):
    protocol: int = Field(0, ge=0, le=5)


_MODELS: Mapping[str, type[Section]] = {
    "parquet": _Parquet,
    "zarr": _Zarr,
    "netcdf": _NetCDF,
    "csv": _CSV,
    "json": _JSON,
    "pickle": _Pickle,
}
OPTIONS: Mapping[str, type[Section]] = {**dict.fromkeys(FORMATS, _NoOptions), **_MODELS}
"""Name of a format -> the model of its options."""
