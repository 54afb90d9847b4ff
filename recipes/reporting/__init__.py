"""What came out: statistics, tables, plots and the page of recipes/report.py."""
