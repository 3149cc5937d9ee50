"""The commands, one file each: from typed options to a request, what is printed, and an exit code.

Commands import what they run only when they run: `racebench --help` imports nothing but click (docs/decisions/0003).
"""
