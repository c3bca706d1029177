"""Processes of a training: launch, stop requests, locks, devices and communication."""
