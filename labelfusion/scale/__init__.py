"""Files of any size, labelled or scored in chunks, on this machine or on many; tasks on many.

    work.py        what a job is: workers that make a chunk's part of the result
    predict.py     labelling with a finished run
    score.py       asking a config's LLMs
    parts.py       the finished parts beside an output, by which a job goes on
    stream.py      one job from its input to its output, on one engine
    ray_cluster.py a Ray cluster, found or started
    ray_engine.py  the same job on Ray Data
    ray_gate.py    one budget and one rate for the workers of a cluster
    ray_tasks.py   cells of studies and folds of trainings as Ray tasks
    ray_keeper.py  what these have in common, on the machine where the command runs

Knows files, runs and engines. Does not know how rows are labelled or scored, nor the command line.
"""

from labelfusion.scale.predict import Predicted, predict
from labelfusion.scale.score import Scored, score
from labelfusion.scale.stream import Manner

__all__ = ["Manner", "Predicted", "Scored", "predict", "score"]
