"""Criteria: from predictions and an assignment to loss terms."""
