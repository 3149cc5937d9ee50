"""`python -m racebench` is the same command as `racebench`."""

from racebench.cli import main

main()
