"""The Config: what was asked, validated, every value with its place in the YAML.

    text --source--> tree --merging--> one file --parameters, matrix, references--> copies of steps

======================  ===========================================================================================
``nouns``               :class:`Config` and what it is made of; all that the rest of the product knows
``source``              YAML text to a tree of located values
``merging``             includes and changed params
``filling``             ``${…}``
``copies``              matrix, following, gathering: which copies a step has, and what a reference means in one
``drafts``, ``values``  a step as it stands in the file, and the values that it lists
``steps``               the steps, copy by copy, with ``context``, ``calls`` and ``commands``
``outputs``, ``checks`` what names steps from outside, with ``formats`` and ``outside``
``sections``            everything else of a file
======================  ===========================================================================================

All faults of a file are collected and reported at once. Nothing here imports numpy or dask.
"""

from __future__ import annotations

from pipeline.config.loading import load, loads
from pipeline.config.nouns import Check, Config, Filled, ItemKey, Output, Over, Reference, Secret, Step

__all__ = ["Check", "Config", "Filled", "ItemKey", "Output", "Over", "Reference", "Secret", "Step", "load", "loads"]
