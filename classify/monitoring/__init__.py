"""Compare new rows with those that a run was measured on: has the data changed?"""
