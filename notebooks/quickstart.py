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
# # A finished study and its figures
#
# `make demo` leaves a study in `runs/transfusion`. This notebook reads it from its tracking store
# and draws what the report draws; it trains nothing. Set `MOT_LAB_STUDY` to the folder of another
# study to read that one.

# %%
# %matplotlib inline
import os
from pathlib import Path

import pandas as pd
from IPython.display import display

from evaluation.figures.losses import loss_curves
from evaluation.figures.matching import step_matching
from evaluation.figures.samples import generated_pictures, metrics_figure
from evaluation.numbers.study import report_numbers
from evaluation.report.blocks import Table
from evaluation.report.tables import arms_table, captions_table, matching_table, metrics_table
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
for note in numbers["notes"]:
    print("*", note)

# %% [markdown]
# ## What the arms cost

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
# ## Step matching
#
# A point at (n, m): the arm reached at step m the loss that the baseline had at step n. Under the
# diagonal the arm learns faster. The slope is the fraction of the baseline's steps that it needs.

# %%
for modality in study.modalities:
    display(step_matching(study, modality))

# %%
frame(matching_table(numbers))

# %% [markdown]
# ## Metrics, between floor and ceiling

# %%
metrics_figure(numbers)

# %%
frame(metrics_table(numbers))

# %% [markdown]
# ## Generated pictures and captions

# %%
generated_pictures(study)

# %%
frame(captions_table(numbers, pictures={}).without_pictures())
