"""Reporting: comparison tables, figures and the HTML report of a study."""
