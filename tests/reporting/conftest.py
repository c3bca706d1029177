"""A study's results to report on, simulated in a second."""

from simulated_results import empty_store, make_study, without_objects

__all__ = ["empty_store", "make_study", "without_objects"]
