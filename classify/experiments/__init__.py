"""Many fitted models.

`sweep`, the file of an experiment, `ablate` and recipes each make a list of `Task`s, which hold specs.
`run_all` makes a `Trial` of every spec: here or in other processes, and without fitting a run that exists.
Trials become the rows of a table, see `leaderboard`; recipes put the reported figures next to them.
"""
