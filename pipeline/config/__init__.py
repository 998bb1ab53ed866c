"""YAML -> Config: a file loaded and validated, every value with its place. Imports neither numpy nor dask.

A file goes through these, called by loader: yaml_nodes, includes, interpolation (of params), step_syntax, matrix,
step_resolution, sections.

absolute_paths      Input paths made absolute: one path, or all those of a Config's tree.
definition          What a pipeline asks for, loaded or built in Python: the base class of pipeline.Pipeline.
expression_binding  Expressions of a file bound to the values of their ``${…}`` and to the steps that they name.
expressions/        The language of expressions and references: its grammar, functions and types.
fault_collector     The errors of a file, collected so that all of them are reported at once.
from_python         Values of Python as the tree of a file, and references to steps as objects.
html_table          Tables in HTML, as notebooks show them below a cell.
includes            One tree from a file, the files that it includes, and the params that the command line changes.
files_read          The files that are read while a Config is loaded.
interpolation       ``${…}``: values from params, matrix keys, the environment and files.
json_values         A Config, or a part of it, in the types that JSON has.
kinds               The kinds of values that steps give, and which op makes one kind of another.
loader              Loads a Config from a file, a text or a tree: the order of sections and steps.
matrix              The instances of a step with a matrix, and what a reference means in one of them.
matrix_values       The values that a file lists: those of ``matrix``, of ``over``, of ``exclude``.
model               The Config: its steps, outputs and checks, and what they refer to.
module_source       What a Python file defines, by reading it: its names, and the parameters of its functions.
notebook_cells      Whether this process is the kernel of a notebook, and which of its cells runs now.
op_parameters       The parameters of an op, validated against the op's signature.
python_builder      A pipeline built in Python: the keys of a file, gathered call by call.
resolved_yaml       A Config as one file, with its includes merged and its params replaced by their values.
scalars             Names, labels, numbers and durations, as they are written in a file.
schema/             The JSON Schema of a file, and the listing of ops.
secret_values       The values of ``${secret:…}`` that were read, and how they are masked in texts.
sections/           The sections of a file: the keys that each may have, and what is made of them.
signatures/         The signature of each op: its inputs, parameters and result.
source_digests      What a Python file defines and imports, by reading it: a digest of each function.
step_context        What the steps of a file share while they are resolved; the reader of one instance of a step.
step_resolution     The instances of one parsed step, with every reference, ``${…}`` and expression resolved.
step_syntax         A step as it is written: its kind, its keys checked, its references found.
targets             Names of steps and items on the command line, as show and debug take them.
type_names          The names of the types of columns, taken apart.
user_functions      Whether the functions that a file names exist, and take the arguments that they get.
yaml_nodes          YAML text parsed to a tree in which every value has its place.
yaml_writer         A tree written as YAML text that parses to the same tree.
"""
