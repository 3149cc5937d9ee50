"""`python -m racebench` is the same command as `racebench`."""

from racebench.cli.main import main

main()
