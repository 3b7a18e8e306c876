"""Encode on a Ray cluster. Of Ray only actors are used, and nothing outside of this folder knows it.

The driver, which is the process that the user started, reads the table, looks up what is missing in the
store, and hands blocks of inputs to actors (see `distribution`). An actor reads and encodes them as the local
engine does, commits the rows to parts of its own each second, and returns only which inputs failed. So no
vector goes through the cluster, and what a lost node had committed is not encoded again: the driver looks it
up in the store. It also records the failures, so that their journal has one writer.

What may depend on the machine (precision, backend, batch size) is decided once, by the first actor.
"""
