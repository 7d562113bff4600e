"""Metrics, public data sets, baselines and the papers' tables: how good a method is, and against what."""
