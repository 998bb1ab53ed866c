"""What ``import pipeline`` promises, and what it does not do."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import pipeline

NAMES = {
    *("load", "batches", "build", "check", "run", "compare", "Pipeline", "Config", "Graph", "Trace", "__version__"),
    "shared",
    *("PipelineError", "ConfigError", "DataError", "TaskError", "BackendError", "OutputError", "CheckError"),
}


def test_the_exported_names_are_these_and_each_can_be_had() -> None:
    assert set(pipeline.__all__) == NAMES
    assert all(getattr(pipeline, name) is not None for name in NAMES)


def test_no_module_has_the_name_of_a_public_function() -> None:
    """Importing ``pipeline.x`` sets the attribute ``x`` of the package, and would hide a function of that name."""
    assert not {module.name for module in pkgutil.iter_modules(pipeline.__path__)} & NAMES


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pipeline.nothing  # noqa: B018


def test_importing_loads_neither_numpy_nor_dask() -> None:
    code = "import sys, pipeline; print({'numpy', 'dask', 'pandas', 'xarray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
