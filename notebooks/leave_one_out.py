# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which modalities should share weights?
#
# The paper isolates one modality at a time: it gets weights of its own, the others share theirs
# (figure 15). With three modalities these are three of the five ways to share; the others are
# `dense` (all share) and `mot` (none share). A study with `arms: all_partitions` trains all five.
# This notebook reads one that is finished, `runs/leave_one_out` unless `MOT_LAB_STUDY` names
# another; nothing is trained.

# %%
# %matplotlib inline
import os
from pathlib import Path

import pandas as pd
from IPython.display import display

from evaluation.figures.losses import loss_curves
from evaluation.figures.slope_matrix import slope_matrix
from evaluation.figures.slopes import slopes_figure
from evaluation.numbers.study import report_numbers
from evaluation.paper.slopes import paper_slopes
from evaluation.paper.tables import FIGURES
from evaluation.report.blocks import Table
from evaluation.report.slopes import slopes_table
from evaluation.report.tables import losses_table
from evaluation.store.read import read_study

root = next(up for up in [Path.cwd(), *Path.cwd().parents] if (up / "notebooks").is_dir())
folder = root / os.environ.get("MOT_LAB_STUDY", "runs/leave_one_out")
study = read_study(f"sqlite:///{folder / 'mlflow.db'}", folder.name)
numbers = report_numbers(study)


def frame(table: Table) -> pd.DataFrame:
    """A table of the report to look at and to compute with."""
    table = table.spread()  # a column for each end of an interval
    return pd.DataFrame(table.rows, columns=list(table.columns))


print(f"{study.name} ({study.setting}); seeds {study.seeds}")
for arm, facts in numbers["arms"].items():
    print(f"* {arm}: {facts['description']}, {facts['parameters']:,} parameters")
for note in [*numbers["alerts"], *numbers["notes"]]:
    print("*", note)

# %% [markdown]
# ## Slopes, modality by arm, beside the paper's
#
# The share of the baseline's steps that an arm needs to the same loss. Read a column: a modality
# gains where it has weights of its own, or where the modality that it shares with has left. The
# paper's models have 443 million parameters and say so of the training loss; it gives no intervals.

# %%
paper = [slope for slope in paper_slopes(["figure_15"]) if slope.modality in study.modalities]
display(slope_matrix(numbers, "train", paper), slope_matrix(numbers, "val"))
for fact in FIGURES["figure_15"].facts:
    print("The paper:", fact)

# %%
frame(slopes_table(numbers))

# %% [markdown]
# ## The same with intervals to scale

# %%
slopes_figure(numbers)

# %% [markdown]
# ## Losses

# %%
for modality in study.modalities:
    display(loss_curves(study, modality))

# %%
frame(losses_table(numbers))
