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
# # The arms of a finished study, compared
#
# Which arm needs how much of the baseline's steps, FLOPs and seconds, how good is what it makes,
# and what do its layers look like inside? Everything is read from a finished study's folder,
# `runs/transfusion` unless `MOT_LAB_STUDY` names another; nothing is trained.

# %%
# %matplotlib inline
import os
from pathlib import Path

import pandas as pd
from IPython.display import display

from evaluation.figures.losses import loss_curves
from evaluation.figures.matching import step_matching
from evaluation.figures.samples import generated_pictures, metrics_figure
from evaluation.figures.slopes import slopes_figure
from evaluation.matching.steps import AXES
from evaluation.numbers.study import report_numbers
from evaluation.report.blocks import Table
from evaluation.report.tables import arms_table, differences_table, matching_table, metrics_table
from evaluation.representation.checkpoints import find_checkpoints
from evaluation.representation.figures import components_figure, separation_figure
from evaluation.representation.record import COLUMNS, FILE, read_representation
from evaluation.representation.represent import represent
from evaluation.store.read import read_study

root = next(up for up in [Path.cwd(), *Path.cwd().parents] if (up / "notebooks").is_dir())
folder = root / os.environ.get("MOT_LAB_STUDY", "runs/transfusion")
study = read_study(f"sqlite:///{folder / 'mlflow.db'}", folder.name)
numbers = report_numbers(study)


def frame(table: Table) -> pd.DataFrame:
    """A table of the report to look at and to compute with."""
    table = table.spread()  # a column for each end of an interval
    return pd.DataFrame(table.rows, columns=list(table.columns))


print(f"{study.name} ({study.setting}): {', '.join(study.arms)}; seeds {study.seeds}")
for note in [*numbers["alerts"], *numbers["notes"]]:
    print("*", note)

# %% [markdown]
# ## What each arm costs

# %%
frame(arms_table(numbers))

# %% [markdown]
# ## Losses over steps, FLOPs and seconds
#
# Lines are means over the seeds, bands run from the least to the greatest of them.

# %%
for modality in study.modalities:
    display(loss_curves(study, modality))

# %% [markdown]
# ## Step, FLOP and time matching
#
# A point at (n, m): the arm reached at step m the loss that the baseline had at step n. The slope
# is the share of the baseline's steps that it needs; times the ratio of FLOPs or seconds per step
# it is the share of those.

# %%
for modality in study.modalities:
    display(step_matching(study, modality))

# %%
for axis in AXES:
    display(slopes_figure(numbers, axis=axis))

# %%
frame(matching_table(numbers))

# %% [markdown]
# ## Metrics, between floor and ceiling
#
# The ceiling is what held-out real data gets, the floor what captions get that belong to other
# pictures.

# %%
metrics_figure(numbers)

# %%
frame(metrics_table(numbers))

# %%
frame(differences_table(numbers))

# %% [markdown]
# ## Generated beside real pictures

# %%
generated_pictures(study)

# %% [markdown]
# ## Inside the layers
#
# Hidden states of held-out tokens, as the paper's figures 2b and 23: each layer along its own first
# two principal components, and how far apart the modalities lie. `mot-lab represent` writes the
# same; what it wrote is read here, else the checkpoints of the first seed are looked into.

# %%
written = folder / "representation"
if (written / FILE).exists():
    found = read_representation(written)
elif any(folder.glob("*/checkpoint.ckpt")):
    found = represent(find_checkpoints([folder]))
else:
    found = None
    print(f"{folder.name} has neither checkpoints nor {FILE}: no figures of its layers")

# %%
if found is not None:
    display(components_figure(found), separation_figure(found))

# %%
if found is not None:
    display(pd.DataFrame(found.rows(), columns=list(COLUMNS)))
