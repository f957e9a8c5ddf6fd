"""The machine: its settings, files, workers, records, and how text and tables are shown."""
