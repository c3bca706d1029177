"""Criteria (losses of a method): from predictions and an assignment to loss terms."""
