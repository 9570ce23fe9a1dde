"""Studies on a SLURM cluster: one job a run, and one that gathers the report."""
