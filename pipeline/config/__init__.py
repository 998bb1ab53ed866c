"""The Config: what was asked, validated, every value with its place in the YAML. No numpy, no dask.

absolute_paths   The tree of a Config with every input path absolute, so that it means the same wherever it is read.
expressions/
fault_collector  Collecting the faults of a file, so that all of them can be told at once.
from_python      What Python hands over in the place of a file: values as a tree, references as objects.
includes         One tree from a file, what it includes, and what is changed on the command line.
interpolation    ``${…}``: values from params, matrix keys, the environment and files, and what stands in for values of
loader           From a file, or a text, to a Config: the order in which things are read.
matrix           Which copies a step has, and what a reference means in one of them.
matrix_values    The values that a file lists: those of a matrix with their labels, of ``over``, of ``exclude``.
model            The noun itself: a Config, its steps, and what they refer to.
op_parameters    The parameters of an op: filled, their expressions parsed and bound, checked against the op's signature
python_builder   A pipeline as Python builds it: the keys of a file, gathered call by call, each with the line of its ca
resolved_yaml    A Config as plain values, and the file that it comes to: what is included and set in its place, params
scalars          Names, labels, numbers and times as they are written in a file.
schema/
sections/
signatures/
step_context     What all steps of a file share while they are read, and the reader of one copy of one of them.
step_resolution  The copies of one step, from its draft and from what is known of the steps that it refers to.
step_syntax      A step as it stands in the file: which kind it is, its keys checked, its references found, nothing reso
targets          What a name on the command line means: a reference, as the language has it, or one item of a step.
yaml_nodes       YAML text to a tree in which every value has its place.
yaml_writer      A tree as the YAML text that it is read from: what fits on a line stands on it, the rest below its key.
"""
