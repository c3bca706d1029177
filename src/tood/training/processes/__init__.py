"""Processes of a training: started, stopped, locked, and talking to each other."""
