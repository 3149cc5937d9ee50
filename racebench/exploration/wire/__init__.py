"""Sessions that reach the server through the wire gate: programs, requests to a service, callables over any driver."""
