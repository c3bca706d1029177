"""Runs the project against recorded reference numbers and reports the differences."""
