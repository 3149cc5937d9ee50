"""Jobs: processes that search parts of an exploration, each on an embedded server of its own.

`messages` is what the explorer and a job tell each other, `job` is what a job does, `pool` starts and ends jobs, and
`sharing` divides a search among them. How the tree is divided is tree.py's (docs/decisions/0019-jobs.md).
"""
