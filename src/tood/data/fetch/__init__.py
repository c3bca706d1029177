"""Obtaining the files of data sets: downloads, archives, manifests."""
