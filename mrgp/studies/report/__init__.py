"""Reports: one page of HTML of a result, or of the folder of a run."""
