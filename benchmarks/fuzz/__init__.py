"""Random programs that compare racebench's explorer with itself without reduction and with a brute force."""
