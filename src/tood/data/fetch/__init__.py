"""Obtaining the files of data sets: download, archives, manifests."""
