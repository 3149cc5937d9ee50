"""One schedule, step by step, on a real server: on a terminal, or exported as a file."""
