"""Faults under load: connections that are cut, stalled and delayed, terminated sessions, a server that crashes.

The workers' connections pass through processes of this package, a port for each session; consumers and the judge
connect directly. How a fault is written is racebench.core.injection's; what becomes of an operation, the worker's.
"""
