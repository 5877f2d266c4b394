"""The desk's queue in SQL: its tables, columns, views, histograms and curves."""
