"""Reporting: tables, figures, the report, and the mirror in MLflow."""
