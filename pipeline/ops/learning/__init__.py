"""Models of scikit-learn: trained over a grid and folds, and applied.

estimators   Estimators by their import paths, with parameters; what is wrong with them, before the run.
fitting      Tasks that train and score one combination of parameters on one fold.
members      Forests and bagging whose members are trained by several tasks, and put together.
partial      Models trained by ``partial_fit``, one partition after the other.
predicting   ``predict``: a model applied to a frame or an array.
row_sources  Where the rows of ``train`` come from: partitions of a frame, chunks of arrays.
scorers      The scorers that a step names, before the run.
search       Candidates of a grid, their scores as a frame, and the best of them.
tables       The rows that models are trained on: gathered, checked, cut into folds.
training     ``train``: the tasks of all of these.
"""
